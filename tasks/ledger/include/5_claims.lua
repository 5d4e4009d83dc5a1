-- Into a worker's hands: the event with its lease; where it is worked on for the first time, the destinations at which
-- earlier deliveries of its subject wait; and whether deliveries of its subject lie in the dead letters.
local function taken(id, owner, lease)
  local event = event_key(id)
  move(id, 'running', now + lease)
  redis.call('HSET', event, 'owner', owner)
  local subject = redis.call('HGET', event, 'subject')
  local blocked, grave = {}, 0
  if subject then
    grave = redis.call('EXISTS', grave_key(subject))
    if redis.call('LINDEX', line_key(subject), 0) == id then blocked = redis.call('HKEYS', lanes_key(subject)) end
  end
  return {id, blocked, grave, redis.call('HGETALL', event)}
end
