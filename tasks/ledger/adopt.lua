-- Events that nobody would ever work on again: back to the queue, whatever they waited for.
-- ARGV  queue, then the ids
-- Gives {unsent tickets, the ids put back}
local adopted = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local event = event_key(id)
  if redis.call('HGET', event, 'state') == 'scheduled' and not redis.call('ZSCORE', WAITS.scheduled, id) then
    redis.call('ZADD', WAITS.scheduled, micros(now), id)
    adopted[#adopted + 1] = id
  end
  local hash = redis.call('HGETALL', event)
  local state = redis.call('HGET', event, 'state')
  -- Who works on it, or waits with a due time, is not forgotten.
  local busy = redis.call('ZSCORE', WAITS.running, id) or redis.call('ZSCORE', WAITS.retrying, id)
    or redis.call('ZSCORE', WAITS.unidentified, id) or redis.call('ZSCORE', WAITS.scheduled, id)
  local subject = redis.call('HGET', event, 'subject')
  -- Nor who stands in its line; the first of it is woken, and takes the others along.
  local line = state == 'lined' and subject and line_key(subject)
  local stands = line and redis.call('LINDEX', line, 0) ~= id and redis.call('LPOS', line, id)
  if WAITS[state] and not busy and not stands then
    for n = 1, #hash, 2 do
      local route = string.match(hash[n], '^s:(.*)$')
      local waits = route and (hash[n + 1] == 'held' or string.match(hash[n + 1], '^parked:'))
      local member = route and id .. ':' .. route
      local order = route and redis.call('HGET', event, 'o:' .. route) or ''
      if waits and (order == '' or not subject or is_first(subject, order, member) or hash[n + 1] ~= 'held') then
        redis.call('HSET', event, 's:' .. route, 'pending')
      elseif waits then
        redis.call('HDEL', event, 'l:' .. route)
        join(subject, order, id, route)
        if is_first(subject, order, member) then redis.call('HSET', event, 's:' .. route, 'pending') end
      end
    end
    wake(id)
    adopted[#adopted + 1] = id
  end
end
return {unsent, adopted}
