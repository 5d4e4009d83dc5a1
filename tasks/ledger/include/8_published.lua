-- What others publish: events that are not to go on before their time, outcomes that somebody waits for, messages that
-- cannot become an event.
--
-- router:scheduled      zset  id → when it goes on
-- router:quota:<source> hash  of a publisher with a quota: `tat`, when its next event would be on time if events came at
--                       just its rate; `waits`, how many of its events are scheduled because of it; `last`, when the
--                       last of them goes on
-- router:reply:<task>   hash  of a task whose publisher wants to know: how many of its events are `open`, `ttl` of the result
--                       in seconds, and for each event `e:<id>` → what became of it, '' while that is open
-- celery-task-meta-<task>  string  the result, as Celery's own backend writes it
--                       (https://docs.celeryq.dev/en/stable/reference/celery.backends.redis.html)
local QUARANTINE, REPLY_KEPT = 'router:quarantine', 2592000

-- When an event of a publisher with a quota may go on; nil = at once. `gap` is microseconds between two at its rate, nil =
-- no quota (any more).
-- Generic cell rate algorithm: https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
local function slot(source, gap, burst)
  local key = 'router:quota:' .. source
  local tat, waits, last = unpack(redis.call('HMGET', key, 'tat', 'waits', 'last'))
  local free_at, others_wait_ = now, tonumber(waits or '0') > 0
  if gap then
    tat = math.max(tonumber(tat or '0'), now)
    redis.call('HSET', key, 'tat', micros(tat + gap))
    free_at = tat - (burst - 1) * gap
  end
  -- Behind those that wait already, or it would overtake them.
  if free_at > now or others_wait_ then return math.max(free_at, now, tonumber(last or '0') + 1) end
end

local function waits_for_quota(source, at)
  local key = 'router:quota:' .. source
  redis.call('HSET', key, 'last', micros(at))
  redis.call('HINCRBY', key, 'waits', 1)
end

-- Until its time has come, all that it needs to take its place then is kept with it.
local function schedule(id, due, subject, said, keys, by_quota)
  local event = event_key(id)
  redis.call('HSET', event, 'state', 'scheduled', 'to', subject, 'said', said, 'keys', table.concat(keys, ' '))
  if by_quota then redis.call('HSET', event, 'quota', '1') end
  redis.call('ZADD', WAITS.scheduled, micros(due), id)
end

-- Writes a task's result, when nothing of it is open any more.
local function conclude(task)
  local key = 'router:reply:' .. task
  local open, ttl = unpack(redis.call('HMGET', key, 'open', 'ttl'))
  if not open or tonumber(open) > 0 then return end
  local fields, good, bad = redis.call('HGETALL', key), {}, {}
  for i = 1, #fields, 2 do
    local event = string.match(fields[i], '^e:(.*)$')
    local why = event and string.match(fields[i + 1], '^!(.*)$')
    if why then
      bad[#bad + 1] = quoted(event .. ': ' .. why)
    elseif event then
      good[#good + 1] = quoted(event) .. ':' .. quoted(fields[i + 1])
    end
  end
  local status, result = 'SUCCESS', '{' .. table.concat(good, ',') .. '}'
  if #bad > 0 then
    status = 'FAILURE'
    result = '{"exc_type":"DeadLetter","exc_message":[' .. table.concat(bad, ',') .. '],"exc_module":null}'
  end
  local meta = 'celery-task-meta-' .. task
  local text = '{"task_id":' .. quoted(task) .. ',"status":"' .. status .. '","result":' .. result
    .. ',"traceback":null,"children":[],"date_done":null}'
  redis.call('SET', meta, text, 'EX', ttl)
  redis.call('PUBLISH', meta, text)
  -- A replay within that time is told, too.
  redis.call('EXPIRE', key, ttl)
end

-- A task's id may come again: then what it was told before is no answer any more. It is open until all of it is taken.
local function expect_reply(task, ttl)
  local key = 'router:reply:' .. task
  redis.call('DEL', key, 'celery-task-meta-' .. task)
  redis.call('HSET', key, 'open', 1, 'ttl', ttl)
  redis.call('EXPIRE', key, REPLY_KEPT)
end

local function taken_whole(task)
  redis.call('HINCRBY', 'router:reply:' .. task, 'open', -1)
  conclude(task)
end

local function expect_answer(task, id)
  local key = 'router:reply:' .. task
  if redis.call('HSETNX', key, 'e:' .. id, '') == 1 then redis.call('HINCRBY', key, 'open', 1) end
end

-- What became of an event that a task has brought; failures begin with "!".
local function answer(task, id, outcome)
  local key = 'router:reply:' .. task
  local before = redis.call('HGET', key, 'e:' .. id)
  if not before then return end
  redis.call('HSET', key, 'e:' .. id, outcome)
  if before == '' then redis.call('HINCRBY', key, 'open', -1) end
  conclude(task)
end

-- Those who want to know of an event, a field each; more than these few want nothing but to fill Redis.
local MOST_ASKING = 20
local function asking(fields)
  local tasks = {}
  for i = 1, #fields, 2 do
    local task = string.match(fields[i], '^q:(.*)$')
    if task then tasks[#tasks + 1] = task end
  end
  return tasks
end

-- An event has ended; `hash` is what HGETALL gave of it.
local function ended_for_publisher(id, hash, outcome, failed)
  for _, task in ipairs(asking(hash)) do answer(task, id, (failed and '!' or '') .. outcome) end
end

-- A task asks about an event: one that has ended is an answer at once.
local function ask(task, id)
  local event = event_key(id)
  local fields = redis.call('HGETALL', event)
  expect_answer(task, id)
  if #asking(fields) < MOST_ASKING then redis.call('HSET', event, 'q:' .. task, '1') end
  local state = redis.call('HGET', event, 'state')
  if not ENDED[state] then return end
  local why = nil
  if state == 'dead' then
    for i = 1, #fields, 2 do
      local route = string.match(fields[i], '^s:(.*)$')
      if route and fields[i + 1] == 'dead' then why = why or redis.call('HGET', event, 'r:' .. route) end
    end
  end
  answer(task, id, state == 'dead' and '!' .. (why or state) or state == 'discarded' and '!discarded' or state)
end

-- Ids are the publishers' own, and two may use the same: whoever comes second goes by its name and the id, or, where that
-- is no id, by a hash of both. Whoever did so once goes on so.
local MOST_OF_AN_ID = 200
local function own_id(source, id, envelope)
  local function whose(other) return redis.call('HGET', event_key(other), 'source') end
  local own = source .. ':' .. id
  local hashed = 'id-' .. redis.sha1hex(own)
  if #own > MOST_OF_AN_ID or string.sub(own, 1, 11) == 'quarantine:' then own = hashed end
  local by, renamed = whose(id), whose(own)
  if renamed and renamed ~= source then
    own = hashed
    renamed = whose(own)
  end
  if not renamed and (not by or by == source) then return id, envelope end
  -- The envelope begins with {"id":"…", written by Python.
  local at = 8
  while true do
    local char = string.sub(envelope, at, at)
    if char == '"' or char == '' then break end
    at = at + (char == '\\' and 2 or 1)
  end
  return own, '{"id":' .. quoted(own) .. string.sub(envelope, at + 1)
end

local function keep_message(id, raw, reason, error_, label, source, list)
  local hash = QUARANTINE .. ':' .. id
  if redis.call('EXISTS', hash) == 1 then return end
  redis.call('HSET', hash, 'raw', raw, 'reason', reason, 'error', error_, 'label', label, 'source', source, 'list', list)
  redis.call('ZADD', QUARANTINE, micros(now), id)
  tally(source, 'accepted')
  tally(source, 'dead')
  measure('quarantined_total', reason)
  measure('source_dead_letters_total', source, reason)
end
