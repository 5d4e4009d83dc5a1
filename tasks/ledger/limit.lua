-- What a destination may be asked at most; '' = no limit. Kept at the gate, so that all workers share it.
-- ARGV  queue, then gate, requests a second, requests at a time for each gate
for i = 2, #ARGV, 3 do
  local gate = ARGV[i]
  for n, field in ipairs({'rate', 'concurrency'}) do
    if ARGV[i + n] == '' then
      redis.call('HDEL', gate_key(gate), field)
    else
      redis.call('HSET', gate_key(gate), field, ARGV[i + n])
    end
  end
  if ARGV[i + 1] ~= '' or ARGV[i + 2] ~= '' then redis.call('SADD', SHUT, gate) end
  let_go(gate)
end
return {unsent}
