-- Keep a message that cannot become an event.
-- ARGV  queue, id, raw, reason, error, label, source, list that it came from
keep_message(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8])
taken_in()
return redis.status_reply('OK')
