-- Order. A subject's line has the events that have not been worked on yet; its first is the only one that may be. What
-- an event leaves waiting goes into lanes, one for each subject and destination: a list of deliveries, of which only the
-- first may be attempted.
--
-- `order` of a delivery: "<what a dead letter does>:<destinations, comma separated>", or '' when order does not matter
-- to it. What a dead letter does: pass = the next goes on; hold = it keeps its place in the lanes.
local function lane_key(destination, subject) return 'router:lane:' .. destination .. ':' .. subject end
local function lanes_key(subject) return 'router:lanes:' .. subject end
local function lanes_of(order) return string.gmatch(string.match(order, ':(.*)$') or '', '[^,]+') end

local function join(subject, order, id, route)
  if redis.call('HSETNX', event_key(id), 'l:' .. route, '1') == 0 then return end
  for destination in lanes_of(order) do
    redis.call('RPUSH', lane_key(destination, subject), id .. ':' .. route)
    redis.call('HINCRBY', lanes_key(subject), destination, 1)
  end
end

local function is_first(subject, order, member)
  for destination in lanes_of(order) do
    if redis.call('LINDEX', lane_key(destination, subject), 0) ~= member then return false end
  end
  return true
end

local function leave(subject, order, id, route)
  if redis.call('HDEL', event_key(id), 'l:' .. route) == 0 then return end
  local lanes, member = lanes_key(subject), id .. ':' .. route
  for destination in lanes_of(order) do
    local lane = lane_key(destination, subject)
    local was_first = redis.call('LINDEX', lane, 0) == member
    local left = was_first and redis.call('LPOP', lane) and 1 or redis.call('LREM', lane, 1, member)
    if left > 0 and redis.call('HINCRBY', lanes, destination, -left) <= 0 then
      redis.call('HDEL', lanes, destination)
    end
    local next_ = was_first and redis.call('LINDEX', lane, 0)
    if next_ then
      local next_id, next_route = parts(next_)
      local event = event_key(next_id)
      if redis.call('HGET', event, 's:' .. next_route) == 'held'
        and is_first(subject, redis.call('HGET', event, 'o:' .. next_route) or '', next_) then
        redis.call('HSET', event, 's:' .. next_route, 'pending')
        wake_waiting(next_id)
      end
    end
  end
end
