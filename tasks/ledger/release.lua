-- Take a message out of quarantine: back onto the list it came from, or away for good.
-- ARGV  queue, id, 'back' or 'away', what to put back in place of the message ('' = the message)
-- Gives 1, or 0 when it is not there (any more)
local id, hash = ARGV[2], QUARANTINE .. ':' .. ARGV[2]
if redis.call('ZREM', QUARANTINE, id) == 0 then return 0 end
local raw, source, list = unpack(redis.call('HMGET', hash, 'raw', 'source', 'list'))
source = source or 'queue'
if ARGV[3] == 'back' then
  redis.call('LPUSH', list or 'events', ARGV[4] ~= '' and ARGV[4] or raw)
  count('source', source, 'accepted', -1)
  count('source', source, 'dead', -1)
  measure('quarantine_released_total', source)
else
  count('source', source, 'discarded', 1)
end
redis.call('DEL', hash)
return 1
