-- Take a message out of quarantine: back onto the queue, or away for good.
-- KEYS  quarantine, hash of the message, counts, queue list
-- ARGV  id, source, 'back' or 'away', what to put back in place of the message ('' = the message)
-- Gives 1, or 0 when it is not there (any more)
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then
  return 0
end
local row = 'source/' .. ARGV[2] .. '/'
if ARGV[3] == 'back' then
  redis.call('LPUSH', KEYS[4], ARGV[4] ~= '' and ARGV[4] or redis.call('HGET', KEYS[2], 'raw'))
  redis.call('HINCRBY', KEYS[3], row .. 'accepted', -1)
  redis.call('HINCRBY', KEYS[3], row .. 'dead', -1)
  redis.call('HINCRBY', 'router:metrics', 'quarantine_released_total/' .. ARGV[2], 1)
else
  redis.call('HINCRBY', KEYS[3], row .. 'discarded', 1)
end
redis.call('DEL', KEYS[2])
return 1
