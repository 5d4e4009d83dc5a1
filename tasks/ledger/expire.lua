-- Leases that ran out: count the crash; back to the queue, or, at the limit, into the caller's hands to be buried.
-- KEYS  accepted, running, queue list, suspect, then one event hash for each id
-- ARGV  crash limit, lease in microseconds, owner to be (the caller), then id, ticket ('' = none) for each event
-- Gives {ids put back, ids that the caller now owns}
local accepted, running, queue, suspect = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local limit, lease, owner = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function micros(number) return string.format('%.0f', number) end
local back, mine = {}, {}
for i = 1, #KEYS - 4 do
  local event, id, ticket = KEYS[4 + i], ARGV[2 + 2 * i], ARGV[3 + 2 * i]
  local until_ = redis.call('ZSCORE', running, id)
  if until_ and tonumber(until_) <= now then
    if redis.call('GET', suspect) == id then redis.call('DEL', suspect) end
    if redis.call('HINCRBY', event, 'crashes', 1) >= limit then
      redis.call('HSET', event, 'owner', owner)
      redis.call('ZADD', running, micros(now + lease), id)
      mine[#mine + 1] = id
    else
      redis.call('ZREM', running, id)
      redis.call('HSET', event, 'state', 'accepted')
      redis.call('ZADD', accepted, micros(now), id)
      if ticket ~= '' then redis.call('LPUSH', queue, ticket) end
      back[#back + 1] = id
    end
  end
end
return {back, mine}
