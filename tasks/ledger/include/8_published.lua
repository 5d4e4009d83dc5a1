-- What others publish: events that are not to go on before their time, outcomes that somebody waits for, messages that
-- cannot become an event.
--
-- router:scheduled      zset  id → when it goes on
-- router:quota:<source> hash  of a publisher with a quota: `tat`, when its next event would be on time if events came at
--                       just its rate; `waits`, how many of its events are scheduled because of it; `last`, when the
--                       last of them goes on
-- router:reply:<task>   hash  of a task whose publisher wants to know: `n` events, `ttl` of the result in seconds, and for
--                       each that has ended `e:<id>` → what became of it
-- celery-task-meta-<task>  string  the result, as Celery's own backend writes it
--                       (https://docs.celeryq.dev/en/stable/reference/celery.backends.redis.html)
local QUARANTINE, REPLY_KEPT = 'router:quarantine', 2592000

-- When an event of a publisher with a quota may go on; nil = at once. `gap` is microseconds between two at its rate.
-- Generic cell rate algorithm: https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
local function slot(source, gap, burst)
  local key = 'router:quota:' .. source
  local tat, waits, last = unpack(redis.call('HMGET', key, 'tat', 'waits', 'last'))
  tat = math.max(tonumber(tat or '0'), now)
  redis.call('HSET', key, 'tat', micros(tat + gap))
  local free_at = tat - (burst - 1) * gap
  -- Behind those that wait already, or it would overtake them.
  if free_at <= now and tonumber(waits or '0') <= 0 then return nil end
  local at = math.max(free_at, now, tonumber(last or '0') + 1)
  redis.call('HSET', key, 'last', micros(at))
  redis.call('HINCRBY', key, 'waits', 1)
  return at
end

-- Until its time has come, all that it needs to take its place then is kept with it.
local function schedule(id, due, subject, said, keys, by_quota)
  local event = event_key(id)
  redis.call('HSET', event, 'state', 'scheduled', 'to', subject, 'said', said, 'keys', table.concat(keys, ' '))
  if by_quota then redis.call('HSET', event, 'quota', '1') end
  redis.call('ZADD', WAITS.scheduled, micros(due), id)
end

local function quoted_list(texts)
  for i = 1, #texts do texts[i] = quoted(texts[i]) end
  return table.concat(texts, ',')
end

-- What became of an event whose publisher asked; after the last one of its task, the task's result is there.
local function answer_publisher(task, id, outcome, failed)
  local key = 'router:reply:' .. task
  local n, ttl = unpack(redis.call('HMGET', key, 'n', 'ttl'))
  if not n then return end
  redis.call('HSET', key, 'e:' .. id, (failed and '!' or '') .. outcome)
  local fields = redis.call('HGETALL', key)
  local good, bad, ended = {}, {}, 0
  for i = 1, #fields, 2 do
    local event = string.match(fields[i], '^e:(.*)$')
    if event then
      ended = ended + 1
      local why = string.match(fields[i + 1], '^!(.*)$')
      if why then bad[#bad + 1] = event .. ': ' .. why else good[#good + 1] = quoted(event) .. ':' .. quoted(fields[i + 1]) end
    end
  end
  if ended < tonumber(n) then return end
  local status, result = 'SUCCESS', '{' .. table.concat(good, ',') .. '}'
  if #bad > 0 then
    status = 'FAILURE'
    result = '{"exc_type":"DeadLetter","exc_message":[' .. quoted_list(bad) .. '],"exc_module":null}'
  end
  local meta = 'celery-task-meta-' .. task
  local text = '{"task_id":' .. quoted(task) .. ',"status":"' .. status .. '","result":' .. result
    .. ',"traceback":null,"children":[],"date_done":null}'
  redis.call('SET', meta, text, 'EX', ttl)
  redis.call('PUBLISH', meta, text)
end

local function expect_reply(task, events, ttl)
  local key = 'router:reply:' .. task
  redis.call('HSET', key, 'n', events, 'ttl', ttl)
  redis.call('EXPIRE', key, REPLY_KEPT)
end

-- An event has ended: what is told to its publisher, if that wants to know.
local function ended_for_publisher(id, outcome, failed)
  local task = redis.call('HGET', event_key(id), 'reply')
  if task then answer_publisher(task, id, outcome, failed) end
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
