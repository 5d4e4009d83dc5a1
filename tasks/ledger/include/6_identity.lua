-- Identity. An event that does not say whom it is about may share a key (of a message, of an experience) with one that
-- does. What is known of a key is the envelope's text itself, so that nobody has to take the envelope apart.
--
-- router:person:<key>  hash of the subject ('' = none), a space, and `"subject":…,"person":…` of the envelope
-- router:early:<key>   list: events that wait until somebody knows the key, in order of acceptance
local NOBODY = '"subject":null'
local function person_key(key) return 'router:person:' .. key end
local function early_key(key) return 'router:early:' .. key end

-- What is known by the first of these keys; `any`: else by the next ones.
local function known_by(keys, any)
  for i = 1, any and #keys or math.min(1, #keys) do
    local known = redis.call('GET', person_key(keys[i]))
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

-- An event that waited for somebody to know it goes on, with what is known or without. Gives its keys.
local function go_on(id, known)
  local event = event_key(id)
  local envelope, keys = unpack(redis.call('HMGET', event, 'env', 'keys'))
  redis.call('HDEL', event, 'keys')
  if known then redis.call('HSET', event, 'env', completed(envelope, known)) end
  if enter(event, id, known and string.match(known, '^%S*') or '') == 'lined' then
    move(id, 'lined', now)
  else
    wake(id)
  end
  local list = {}
  for key in string.gmatch(keys or '', '%S+') do list[#list + 1] = key end
  return list
end

-- Remember whom these keys are about. The first is the event's own; of the others, whoever spoke first is believed.
-- Those who waited for one of them go on, and what they know by it, others learn from them.
local function teach(keys, known, remember, own)
  local todo = {}
  for i = 1, #keys do todo[i] = {keys[i], own and i == 1} end
  while #todo > 0 do
    local key, sure = unpack(table.remove(todo, 1))
    local new
    if sure then
      new = redis.call('SET', person_key(key), known, 'EX', remember)
    else
      new = redis.call('SET', person_key(key), known, 'EX', remember, 'NX')
    end
    local early = new and redis.call('LPOP', early_key(key))
    while early do
      if redis.call('HGET', event_key(early), 'state') == 'unidentified' then
        for _, other in ipairs(go_on(early, known)) do todo[#todo + 1] = {other, false} end
      end
      early = redis.call('LPOP', early_key(key))
    end
  end
end
