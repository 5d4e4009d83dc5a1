-- What others publish: events that are not to go on before their time, outcomes that somebody waits for, messages that
-- cannot become an event.
--
-- router:scheduled      zset  id → when it goes on
-- router:quota:<source> hash  of a publisher with a quota: `tat`, when its next event would be on time if events came at
--                       just its rate; `waits`, how many of its events are scheduled because of it; `last`, when the
--                       last of them goes on
-- router:scheduled:same hash  a time for which more than one event is scheduled → how many more
-- router:reply:<task>   hash  of a task whose publisher wants to know: `n` events, `ttl` of the result in seconds, and for
--                       each that has ended `e:<id>` → what became of it
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

-- Of events that are due in the same microsecond, each is scheduled one later than the one before: in their order.
local SAME = 'router:scheduled:same'
local function unique(due)
  if redis.call('ZCOUNT', WAITS.scheduled, micros(due), micros(due)) == 0 then return due end
  return due + redis.call('HINCRBY', SAME, micros(due), 1)
end

-- Until its time has come, all that it needs to take its place then is kept with it.
local function schedule(id, due, subject, said, keys, by_quota)
  local event = event_key(id)
  redis.call('HSET', event, 'state', 'scheduled', 'to', subject, 'said', said, 'keys', table.concat(keys, ' '))
  if by_quota then redis.call('HSET', event, 'quota', '1') end
  redis.call('ZADD', WAITS.scheduled, micros(due), id)
end

-- What became of an event whose publisher asked; after the last one of its task, the task's result is there.
local function answer_publisher(task, id, outcome, failed)
  local key = 'router:reply:' .. task
  local n, ttl = unpack(redis.call('HMGET', key, 'n', 'ttl'))
  if not n then return end
  redis.call('HSET', key, 'e:' .. id, (failed and '!' or '') .. outcome)
  -- Two fields are n and ttl.
  if redis.call('HLEN', key) - 2 < tonumber(n) then return end
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

-- A task's id may come again: then what it was told before is no answer any more.
local function expect_reply(task, events, ttl)
  local key = 'router:reply:' .. task
  redis.call('DEL', key, 'celery-task-meta-' .. task)
  redis.call('HSET', key, 'n', events, 'ttl', ttl)
  redis.call('EXPIRE', key, REPLY_KEPT)
end

-- Those who want to know of an event, by lines: it may be published again by somebody who asks, too.
local function ended_for_publisher(id, outcome, failed)
  local tasks = redis.call('HGET', event_key(id), 'reply')
  for task in string.gmatch(tasks or '', '[^\n]+') do answer_publisher(task, id, outcome, failed) end
end

-- Somebody asks about an event that is there already: an answer, or one more who waits.
local function answer_about(task, id)
  local event = event_key(id)
  local state, tasks = unpack(redis.call('HMGET', event, 'state', 'reply'))
  if ENDED[state] then
    answer_publisher(task, id, state, state == 'dead' or state == 'discarded')
  elseif not string.find('\n' .. (tasks or '') .. '\n', '\n' .. task .. '\n', 1, true) then
    redis.call('HSET', event, 'reply', (tasks and tasks .. '\n' or '') .. task)
  end
end

-- Ids are the publishers' own, and two may use the same: whoever comes second goes by its name and the id.
local function own_id(source, id, envelope)
  local other = redis.call('HGET', event_key(id), 'source')
  local head = '{"id":' .. quoted(id)
  if not other or other == source or string.sub(envelope, 1, #head) ~= head then return id, envelope end
  local own = source .. ':' .. id
  return own, '{"id":' .. quoted(own) .. string.sub(envelope, #head + 1)
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
