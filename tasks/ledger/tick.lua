-- Time passes at the gates: waits end, rates refill, what was let go and never came back is counted no more.
-- ARGV  queue
-- Gives {unsent tickets, changed gates}
local gates = redis.call('SMEMBERS', SHUT)
for i = 1, #gates do let_go(gates[i]) end
return {unsent, changed}
