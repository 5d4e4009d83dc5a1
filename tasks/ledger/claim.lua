-- Take a lease on each event of a ticket that is free to be worked on.
-- KEYS  accepted, running, retrying, claimed, suspect, then one event hash for each id
-- ARGV  owner, lease in microseconds, crashes from which an event runs apart from other suspects, then the ids
-- Gives for each event taken {id, its hash as a flat list}. Not given out: settled, leased, not due, unknown.
local accepted, running, retrying, claimed, suspect = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local owner, lease, apart = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function micros(number) return string.format('%.0f', number) end

-- Two events that were both there when a worker died must not run together again, or the innocent one shares the
-- guilty one's fate until both count as poison.
local function another_suspect_runs(id)
  local other = redis.call('GET', suspect)
  if not other or other == id then return false end
  local until_ = redis.call('ZSCORE', running, other)
  return until_ and tonumber(until_) > now
end

local taken, newest = {}, 0
for i = 1, #KEYS - 5 do
  local event, id = KEYS[5 + i], ARGV[3 + i]
  local state = redis.call('HGET', event, 'state')
  -- Ours already: the same call once more, its answer was lost on the way.
  local free = state == 'accepted' or (state == 'running' and redis.call('HGET', event, 'owner') == owner)
  if state == 'retrying' then
    local due = redis.call('ZSCORE', retrying, id)
    free = due and tonumber(due) <= now
  end
  local crashes = free and tonumber(redis.call('HGET', event, 'crashes') or '0') or 0
  if free and crashes >= apart and another_suspect_runs(id) then
    free = false
    redis.call('HSET', event, 'state', 'retrying')
    redis.call('ZREM', accepted, id)
    redis.call('ZADD', retrying, micros(now + 250000), id)
  end
  if free then
    if crashes >= apart then redis.call('SET', suspect, id) end
    local ticketed = tonumber(redis.call('ZSCORE', accepted, id) or '0')
    if ticketed > newest then newest = ticketed end
    redis.call('ZREM', accepted, id)
    redis.call('ZREM', retrying, id)
    redis.call('ZADD', running, micros(now + lease), id)
    redis.call('HSET', event, 'state', 'running', 'owner', owner)
    taken[#taken + 1] = {id, redis.call('HGETALL', event)}
  end
end
if newest > tonumber(redis.call('GET', claimed) or '0') then
  redis.call('SET', claimed, micros(newest))
end
return taken
