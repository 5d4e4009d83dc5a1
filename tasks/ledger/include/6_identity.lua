-- Identity. An event that does not say whom it is about may share a key (of a message, of an experience) with one that
-- does. What is known of a key is the envelope's text itself, so that nobody has to take the envelope apart.
--
-- router:person:<key>  how it is known, hash of the subject ('' = none), a space, and `"subject":…,"person":…` of the
--                      envelope. How: '=' by an event of its own (its first key), '~' by hearsay (a message of the
--                      experience), '?' alone: hearsay of more than one person, which tells nothing
-- router:early:<key>   list: events that wait until somebody knows the key, in order of acceptance
local NOBODY = '"subject":null'
-- As many as go on in one call: more would keep everybody else waiting.
local MOST_AT_ONCE = 2000
local gone_on = 0
local function person_key(key) return 'router:person:' .. key end
local function early_key(key) return 'router:early:' .. key end

local function heard_of(key)
  local known = redis.call('GET', person_key(key))
  if known and known ~= '?' then return string.sub(known, 2) end
end

-- Whether events wait that came before and are about the same: whoever comes now stands behind them.
local function others_wait(keys) return #keys > 0 and redis.call('EXISTS', early_key(keys[1])) == 1 end

-- What is known by the first of these keys; `any`: else by the next ones.
local function known_by(keys, any)
  for i = 1, any and #keys or math.min(1, #keys) do
    local known = heard_of(keys[i])
    if known then return known end
  end
end

-- An envelope that names nobody → the same with what is known. Quotes in texts are escaped, so the place is certain.
local function completed(envelope, known)
  local from, to = string.find(envelope, NOBODY, 1, true)
  if not from then return envelope end
  return string.sub(envelope, 1, from - 1) .. string.match(known, ' (.*)$') .. string.sub(envelope, to + 1)
end

-- A new event takes its place: in its subject's line, if it has a subject. Gives its state.
local function enter(event, id, subject)
  if subject == '' then return 'accepted' end
  redis.call('HSET', event, 'subject', subject)
  return redis.call('RPUSH', line_key(subject), id) > 1 and 'lined' or 'accepted'
end

-- The keys of an event that waits for somebody to know it.
local function keys_of(id)
  local keys = {}
  for key in string.gmatch(redis.call('HGET', event_key(id), 'keys') or '', '%S+') do keys[#keys + 1] = key end
  return keys
end

-- It goes on, with what is known or without.
local function go_on(id, known)
  local event = event_key(id)
  redis.call('HDEL', event, 'keys')
  if known then redis.call('HSET', event, 'env', completed(redis.call('HGET', event, 'env'), known)) end
  if enter(event, id, known and string.match(known, '^%S*') or '') == 'lined' then
    move(id, 'lined', now)
  else
    wake(id)
  end
end

local function remember_person(key, known, own, seconds)
  local how, old = own and '=' or '~', redis.call('GET', person_key(key))
  if own or not old then
    redis.call('SET', person_key(key), how .. known, 'EX', seconds)
  elseif old ~= '?' and string.sub(old, 1, 1) == '~' and string.sub(old, 2) ~= known then
    redis.call('SET', person_key(key), '?', 'EX', seconds)
  end
end

-- Remember whom these keys are about; the first is the event's own, where `own` says so. Those who waited for one of
-- them go on, and what they know by it, others learn from them.
local function teach(keys, known, seconds, own)
  local todo, at = {}, 1
  for i = 1, #keys do todo[i] = {keys[i], own and i == 1} end
  while todo[at] do
    local key, sure = unpack(todo[at])
    at = at + 1
    remember_person(key, known, sure, seconds)
    local found = heard_of(key)
    while found do
      local early = redis.call('LINDEX', early_key(key), 0)
      if not early then break end
      local waits = redis.call('HGET', event_key(early), 'state') == 'unidentified'
      if waits and gone_on >= MOST_AT_ONCE then
        -- The sweeper takes it, and it brings the others along.
        redis.call('ZADD', WAITS.unidentified, micros(now), early)
        break
      end
      redis.call('LPOP', early_key(key))
      if waits then
        gone_on = gone_on + 1
        for _, other in ipairs(keys_of(early)) do
          if other ~= key then todo[#todo + 1] = {other, false} end
        end
        go_on(early, found)
      end
    end
  end
end
