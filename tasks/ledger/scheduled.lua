-- Scheduled events whose time has come take their place, in the order of their times, and those of one moment in that in
-- which they were accepted.
-- ARGV  queue, how long to wait for an event's person and to remember it (seconds), most events
-- Gives {unsent tickets, the ids that go on}
local wait, remember, most = tonumber(ARGV[2]) * 1000000, ARGV[3], tonumber(ARGV[4])

local function accepted_at(id) return tonumber(redis.call('HGET', event_key(id), 'at') or '0') end

local function first_due()
  local found, due = redis.call('ZRANGEBYSCORE', WAITS.scheduled, '-inf', micros(now), 'WITHSCORES', 'LIMIT', 0, most), {}
  for i = 1, #found, 2 do due[#due + 1] = {found[i], tonumber(found[i + 1]), accepted_at(found[i])} end
  return due
end

local due, gone = first_due(), {}
if #due == most then
  -- More of the last one's moment may lie behind, and in another order. Once, each of them gets a time of its own: all of
  -- them are due, and what is due before them is among the first.
  local last = due[#due][2]
  local same = redis.call('ZRANGEBYSCORE', WAITS.scheduled, micros(last), micros(last))
  if #same > 1 and due[1][2] ~= last or #same > most then
    local ranked = {}
    for i = 1, #same do ranked[i] = {same[i], accepted_at(same[i])} end
    table.sort(ranked, function(a, b) return a[2] < b[2] end)
    for i = 1, #ranked do redis.call('ZADD', WAITS.scheduled, micros(last - #ranked + i), ranked[i][1]) end
    local before = {}
    for i = 1, #due do
      if due[i][2] < last then before[#before + 1] = due[i] end
    end
    for i = 1, math.min(#ranked, most - #before) do before[#before + 1] = {ranked[i][1], last, ranked[i][2]} end
    due = before
  end
end
table.sort(due, function(a, b) return a[2] < b[2] or (a[2] == b[2] and a[3] < b[3]) end)
for _, each in ipairs(due) do
  local id = each[1]
  local event = event_key(id)
  local envelope, subject, said, keys, quota, source, label = unpack(
    redis.call('HMGET', event, 'env', 'to', 'said', 'keys', 'quota', 'source', 'label'))
  local list = {}
  for key in string.gmatch(keys or '', '%S+') do list[#list + 1] = key end
  redis.call('HDEL', event, 'to', 'said', 'keys', 'quota')
  redis.call('ZREM', WAITS.scheduled, id)
  redis.call('HSET', event, 'from', micros(each[2]))
  if quota then redis.call('HINCRBY', 'router:quota:' .. source, 'waits', -1) end
  if place(id, envelope, subject, said, list, wait, remember) == 'accepted' then
    -- One each: they go on because their time has come, and not to wait for one another.
    push_ticket({id}, label)
  end
  gone[#gone + 1] = id
end
return {unsent, gone}
