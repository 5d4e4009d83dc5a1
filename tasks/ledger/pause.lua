-- Shut a gate by hand, or let it go again.
-- ARGV  queue, gate, 'pause' or 'resume', by whom
-- Gives {unsent tickets, 1, or 0 when it was so already}
local gate = ARGV[2]
local key = gate_key(gate)
if ARGV[3] == 'pause' then
  local new = redis.call('HSETNX', key, 'paused', micros(now))
  if new == 1 then redis.call('HSET', key, 'by', ARGV[4]) end
  redis.call('SADD', SHUT, gate)
  return {unsent, new}
end
local mode, paused = unpack(redis.call('HMGET', key, 'mode', 'paused'))
redis.call('HDEL', key, 'paused', 'by', 'from', 'ended', 'broken', 'unmappable', 'wait', 'row')
-- Whoever resumes says that it works again. Where it did not, one goes first, and if that goes well, the others.
local waited = AFTER[mode] and mode ~= 'busy'
redis.call('HSET', key, 'mode', waited and 'probing' or 'ramping', 'window', waited and 1 or FIRST_WINDOW,
  'since', micros(now))
redis.call('SADD', SHUT, gate)
let_go(gate)
return {unsent, (paused or waited) and 1 or 0}
