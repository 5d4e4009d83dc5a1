-- Add what a process has measured. Sent again, because its answer was lost, a batch counts once.
-- ARGV  queue, process, number of the batch, then field of router:metrics and by how much, again and again
local last = 'router:metrics:batch:' .. ARGV[2]
if redis.call('GET', last) == ARGV[3] then return 0 end
for i = 4, #ARGV, 2 do redis.call('HINCRBY', METRICS, ARGV[i], ARGV[i + 1]) end
redis.call('SET', last, ARGV[3], 'EX', 3600)
return 1
