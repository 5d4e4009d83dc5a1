-- Keep a message that cannot become an event.
-- KEYS  quarantine, hash of the message, counts, metrics
-- ARGV  id, raw, reason, error, label, source
if redis.call('EXISTS', KEYS[2]) == 0 then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[2], 'raw', ARGV[2], 'reason', ARGV[3], 'error', ARGV[4], 'label', ARGV[5])
  redis.call('ZADD', KEYS[1], string.format('%.0f', time[1] * 1000000 + time[2]), ARGV[1])
  redis.call('HINCRBY', KEYS[3], 'source/' .. ARGV[6] .. '/accepted', 1)
  redis.call('HINCRBY', KEYS[3], 'source/' .. ARGV[6] .. '/dead', 1)
  redis.call('HINCRBY', KEYS[4], 'quarantined_total/' .. ARGV[3], 1)
  redis.call('HINCRBY', KEYS[4], 'source_dead_letters_total/' .. ARGV[6] .. '/' .. ARGV[3], 1)
end
return redis.status_reply('OK')
