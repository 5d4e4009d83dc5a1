-- Write down how the deliveries of one event went; give the lease back unless more follow.
-- KEYS  event hash, accepted, running, retrying, dead, counts, suspect, recent
-- ARGV  id, owner, seconds to remember a settled id, '1' when more follow, ended events to keep, longest envelope kept,
--       then route, state, delay in microseconds, record for each delivery.
--       States: pending, retrying, delivered, filtered, dead
-- Gives 'stale' (the lease went to somebody else: nothing is written), or the event's state
local event, accepted, running, retrying = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local dead, counts, suspect, recent = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local id, owner, remember, more = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1'
local keep, longest = tonumber(ARGV[5]), tonumber(ARGV[6])
if redis.call('HGET', event, 'owner') ~= owner then
  return 'stale'
end
-- Swept meanwhile: the last word of a late worker is true all the same, but it must not go on.
if more and redis.call('HGET', event, 'state') ~= 'running' then
  return 'stale'
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function micros(number) return string.format('%.0f', number) end
local ended = {delivered = true, filtered = true, dead = true, discarded = true}

for i = 7, #ARGV, 4 do
  local route, state, delay, record = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local row = 'route/' .. route .. '/'
  local old = redis.call('HGET', event, 's:' .. route)
  -- Ended already: the same call once more, its answer was lost on the way.
  if not (old and ended[old]) then
    if not old then
      redis.call('HINCRBY', counts, row .. 'accepted', 1)
      if not ended[state] then redis.call('HINCRBY', counts, row .. 'waiting', 1) end
    elseif ended[state] then
      redis.call('HINCRBY', counts, row .. 'waiting', -1)
    end
    if ended[state] then redis.call('HINCRBY', counts, row .. state, 1) end
    if state == 'dead' then redis.call('ZADD', dead, micros(now), id .. ':' .. route) end
    if state == 'retrying' then state = 'retrying:' .. micros(now + delay) end
    redis.call('HSET', event, 's:' .. route, state, 'd:' .. route, record)
  end
end
if more then
  return 'running'
end

local next_due, final = nil, 'filtered'
local hash = redis.call('HGETALL', event)
for i = 1, #hash, 2 do
  if string.sub(hash[i], 1, 2) == 's:' then
    local state = hash[i + 1]
    local due = state == 'pending' and now or tonumber(string.match(state, '^retrying:(%d+)$'))
    if due then
      next_due = math.min(next_due or due, due)
    elseif state == 'dead' or (state == 'delivered' and final == 'filtered') then
      final = state
    end
  end
end
redis.call('ZREM', running, id)
redis.call('ZREM', accepted, id)
-- Crashes count in a row: whoever got through once is no poison.
redis.call('HDEL', event, 'owner', 'crashes')
if redis.call('GET', suspect) == id then redis.call('DEL', suspect) end
if next_due then
  redis.call('HSET', event, 'state', 'retrying')
  redis.call('ZADD', retrying, micros(next_due), id)
  return 'retrying'
end
local row = 'source/' .. redis.call('HGET', event, 'source') .. '/'
redis.call('HINCRBY', counts, row .. 'waiting', -1)
redis.call('HINCRBY', counts, row .. final, 1)
redis.call('HSET', event, 'state', final, 'ended', micros(now))
if keep > 0 then
  local envelope = redis.call('HGET', event, 'env')
  if envelope and #envelope <= longest then
    redis.call('LPUSH', recent, envelope)
    redis.call('LTRIM', recent, 0, keep - 1)
  end
else
  redis.call('DEL', recent)
end
if final ~= 'dead' then
  redis.call('HDEL', event, 'env')
  redis.call('EXPIRE', event, remember)
end
return final
