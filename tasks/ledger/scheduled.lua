-- Scheduled events whose time has come take their place.
-- ARGV  queue, how long to wait for an event's person and to remember it (seconds), then the ids
-- Gives {unsent tickets, the ids that go on}
local wait, remember, due, gone = tonumber(ARGV[2]) * 1000000, ARGV[3], {}, {}
for i = 4, #ARGV do
  local at = redis.call('ZSCORE', WAITS.scheduled, ARGV[i])
  if at and tonumber(at) <= now then
    due[#due + 1] = {ARGV[i], tonumber(at)}
  end
end
-- The ids come in any order; no two are due at once (include/8_published.lua).
table.sort(due, function(a, b) return a[2] < b[2] end)
for _, each in ipairs(due) do
  local id = each[1]
  local event = event_key(id)
  local envelope, subject, said, keys, quota, source, label = unpack(
    redis.call('HMGET', event, 'env', 'to', 'said', 'keys', 'quota', 'source', 'label'))
  local list = {}
  for key in string.gmatch(keys or '', '%S+') do list[#list + 1] = key end
  redis.call('HDEL', event, 'to', 'said', 'keys', 'quota')
  redis.call('ZREM', WAITS.scheduled, id)
  redis.call('HDEL', SAME, micros(each[2]))
  redis.call('HSET', event, 'from', micros(each[2]))
  if quota then redis.call('HINCRBY', 'router:quota:' .. source, 'waits', -1) end
  if place(id, envelope, subject, said, list, wait, remember) == 'accepted' then
    -- One each: they go on because their time has come, and not to wait for one another.
    push_ticket({id}, label)
  end
  gone[#gone + 1] = id
end
return {unsent, gone}
