-- Leases that ran out: count the crash; back to the queue, or, at the limit, into the caller's hands to be buried.
-- ARGV  queue, crash limit, lease in microseconds, owner to be (the caller), then the ids
-- Gives {unsent tickets, ids put back, ids that the caller now owns}
local limit, lease, owner = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local back, mine = {}, {}
for i = 5, #ARGV do
  local id = ARGV[i]
  local until_ = redis.call('ZSCORE', WAITS.running, id)
  if until_ and tonumber(until_) <= now then
    if redis.call('GET', SUSPECT) == id then redis.call('DEL', SUSPECT) end
    if redis.call('HINCRBY', event_key(id), 'crashes', 1) >= limit then
      redis.call('HSET', event_key(id), 'owner', owner)
      redis.call('ZADD', WAITS.running, micros(now + lease), id)
      mine[#mine + 1] = id
    else
      wake(id)
      back[#back + 1] = id
    end
  end
end
return {unsent, back, mine}
