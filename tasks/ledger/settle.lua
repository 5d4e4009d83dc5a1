-- Write down how the deliveries of one event went; give the lease back unless more follow; say who is next.
-- ARGV  queue, id, owner, lease in microseconds, seconds to remember a settled id, ended events to keep, longest envelope
--       kept, this call's number when more follow ('' = none do), which event the caller takes next at once ('line', 'any' = of the lanes too, or ''),
--       the gates' policy (7),
--       number of verdicts, then destination, verdict, wait in microseconds for each,
--       then for each delivery route, state, delay in microseconds, record, order, failure, reason, destination ('-' =
--       none), number of fields, the fields that it has written.
--       States: pending, retrying, held, parked:<gate>, delivered, filtered, dead
-- Gives {the event's state, or 'stale' when the lease went to somebody else and nothing was written; unsent tickets;
--        changed gates; shut gates; and when the caller takes the next event of the line or a lane, that event}
local id, owner, lease, remember = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local keep, longest, more, take = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] ~= '', ARGV[9]
local policy = {
  failures = tonumber(ARGV[10]), wait = tonumber(ARGV[11]), most_wait = tonumber(ARGV[12]),
  refused_wait = tonumber(ARGV[13]), route_failures = tonumber(ARGV[14]), route_ratio = tonumber(ARGV[15]),
  route_window = tonumber(ARGV[16]),
}
local event, recent = event_key(id), 'router:recent'
if redis.call('HGET', event, 'owner') ~= owner then
  return {'stale', unsent, changed, {}}
end
-- Swept meanwhile: the last word of a late worker is true all the same, but it must not go on.
if more and redis.call('HGET', event, 'state') ~= 'running' then
  return {'stale', unsent, changed, {}}
end
local subject, accepted_at = unpack(redis.call('HMGET', event, 'subject', 'at'))

local following = nil
if take == 'any' then
  take_held = function(other)
    if following or other == id or redis.call('HGET', event_key(other), 'crashes') then return false end
    following = taken(other, owner, lease)
    return true
  end
end

-- Whether this is the same call once more, because its answer was lost: what it heard and counted counts once. The last
-- call of a lease cannot come twice, the lease has ended then.
local repeated = nil
local function again()
  if more and repeated == nil then
    local call = owner .. '/' .. ARGV[8]
    repeated = redis.call('HGET', event, 'call') == call
    if not repeated then redis.call('HSET', event, 'call', call) end
  end
  return repeated
end

local WRONG = {unauthorized = true, failed = true, throttled = true}
local asked, requests = {}, {}
for i = 18, 17 + 3 * tonumber(ARGV[17]), 3 do
  asked[ARGV[i]] = ARGV[i + 1]
  if not again() then
    hear(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), policy)
    measure('destination_verdicts_total', ARGV[i], ARGV[i + 1])
    requests[ARGV[i]] = (requests[ARGV[i]] or 0) + 1
  end
end
for gate, number in pairs(requests) do
  -- To be let go took one token off the rate; a delivery of several requests takes the others now.
  if number > 1 and redis.call('HEXISTS', gate_key(gate), 'rate') == 1 then
    redis.call('HINCRBYFLOAT', gate_key(gate), 'tokens', 1 - number)
  end
end

-- For the counts and histograms; each attempt once.
local function told(route, state, reason, destination)
  if state == 'delivered' then
    local from, began = unpack(redis.call('HMGET', event, 'f:' .. route, 'from'))
    observe(math.max(0, now - (from or began or accepted_at)), delivery_bounds(), 'delivery_seconds', route, destination)
  elseif state == 'dead' then
    reason = reason ~= '' and reason or 'bug'
    redis.call('HSET', event, 'r:' .. route, reason)
    measure('source_dead_letters_total', redis.call('HGET', event, 'source'), reason)
    measure('route_dead_letters_total', route, destination, reason)
  elseif reason ~= '' and not again() then
    measure('retried_attempts_total', route, destination, reason)
  end
end

local function settle(route, state, delay, record, order, failure, reason, destination, fields)
  local member = id .. ':' .. route
  local old = redis.call('HGET', event, 's:' .. route)
  -- Ended already: the same call once more, its answer was lost on the way.
  if old and ENDED[old] then return end
  told(route, state, reason, destination)
  if not old then
    count('route', route, 'accepted', 1)
    if not ENDED[state] then count('route', route, 'waiting', 1) end
  elseif ENDED[state] then
    count('route', route, 'waiting', -1)
  end
  local pass = old and string.match(old, '^let:(.*)$')
  if pass then
    redis.call('ZREM', flight_key(pass), member)
    if is_route(pass) then hear(pass, 'ok', 0, policy) end
    asked[pass] = asked[pass] or 'ok'
  end
  if not subject then order = '' end
  if order ~= '' and (state == 'dead' or not ENDED[state]) then redis.call('HSET', event, 'o:' .. route, order) end
  local holds = state == 'dead' and string.sub(order, 1, 5) == 'hold:'
  local gate = string.match(state, '^parked:(.*)$')
  -- A route's own trouble is not to hold what other routes have for the same destination: it parks before it joins.
  local waits = order ~= '' and not ENDED[state] and state ~= 'pending' and not (gate and is_route(gate))
  if holds or waits then join(subject, order, id, route) end
  if state == 'held' and (order == '' or is_first(subject, order, member)) then state = 'pending' end
  if gate then
    -- What went wrong is perhaps about this event alone: let another one try first. Its subject's order is the lane's.
    park(gate, member, WRONG[asked[gate]] and micros(now) or accepted_at)
    asked[gate] = asked[gate] or 'parked'
  end
  if state == 'retrying' then state = 'retrying:' .. micros(now + delay) end
  redis.call('HSET', event, 's:' .. route, state, 'd:' .. route, record)
  if not ENDED[state] then return end
  count('route', route, state, 1)
  hear_route(route, failure, policy)
  if state == 'dead' then
    redis.call('ZADD', DEAD, micros(now), member)
    if subject and redis.call('HSET', event, 'g:' .. route, '1') == 1 then
      redis.call('HINCRBY', grave_key(subject), '#', 1)
    end
  else
    unbury(event, route)
    if subject and #fields > 0 and redis.call('EXISTS', grave_key(subject)) == 1 then
      for i = 1, #fields do
        local newest = tonumber(redis.call('HGET', grave_key(subject), fields[i]) or '0')
        if tonumber(accepted_at) > newest then redis.call('HSET', grave_key(subject), fields[i], accepted_at) end
      end
    end
  end
  order = redis.call('HGET', event, 'o:' .. route)
  if order and not holds then leave(subject, order, id, route) end
  if order and state ~= 'dead' then redis.call('HDEL', event, 'o:' .. route) end
end

local i = 18 + 3 * tonumber(ARGV[17])
while i <= #ARGV do
  local fields = {}
  for n = 1, tonumber(ARGV[i + 8]) do fields[n] = ARGV[i + 8 + n] end
  settle(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6], ARGV[i + 7],
    fields)
  i = i + 9 + #fields
end
if more then
  for gate in pairs(asked) do let_go(gate) end
  return {'running', unsent, changed, shut()}
end
-- Crashes count in a row: whoever got through once is no poison.
redis.call('HDEL', event, 'owner', 'crashes', 'call')
if redis.call('GET', SUSPECT) == id then redis.call('DEL', SUSPECT) end

local ready, next_due, waits, final, why = false, nil, false, 'filtered', nil
local hash = redis.call('HGETALL', event)
for n = 1, #hash, 2 do
  if string.sub(hash[n], 1, 2) == 's:' then
    local state = hash[n + 1]
    local due = tonumber(string.match(state, '^retrying:(%d+)$'))
    if state == 'pending' or string.sub(state, 1, 4) == 'let:' then
      ready = true
    elseif due then
      next_due = math.min(next_due or due, due)
    elseif not ENDED[state] then
      waits = true
    elseif state == 'dead' or (state == 'delivered' and final == 'filtered') then
      final = state
      if state == 'dead' then why = redis.call('HGET', event, 'r' .. string.sub(hash[n], 2)) end
    end
  end
end
if ready then
  wake(id)
elseif next_due then
  move(id, 'retrying', next_due)
elseif waits then
  move(id, 'held', now)
else
  redis.call('ZREM', WAITS[redis.call('HGET', event, 'state')] or WAITS.running, id)
  local source = redis.call('HGET', event, 'source')
  count('source', source, 'waiting', -1)
  count('source', source, final, 1)
  redis.call('HSET', event, 'state', final, 'ended', micros(now))
  ended_for_publisher(id, hash, why or final, final == 'dead')
  if keep > 0 then
    local envelope = redis.call('HGET', event, 'env')
    if envelope and #envelope <= longest then
      redis.call('LPUSH', recent, envelope)
      redis.call('LTRIM', recent, 0, keep - 1)
    end
  else
    redis.call('DEL', recent)
  end
  if final ~= 'dead' then
    redis.call('HDEL', event, 'env', 'subject')
    redis.call('EXPIRE', event, remember)
  end
end

-- The event has been worked on: the next one in its subject's line may be.
local line = subject and line_key(subject)
if line and redis.call('LINDEX', line, 0) == id then
  redis.call('LPOP', line)
  local next_ = redis.call('LINDEX', line, 0)
  -- Whoever is no longer waiting for its turn was taken out of the order by hand.
  while next_ and redis.call('HGET', event_key(next_), 'state') ~= 'lined' do
    redis.call('LPOP', line)
    next_ = redis.call('LINDEX', line, 0)
  end
  if next_ and take ~= '' and not following and not redis.call('HGET', event_key(next_), 'crashes') then
    following = taken(next_, owner, lease)
  elseif next_ then
    wake(next_)
  end
end
take_held = nil
for gate in pairs(asked) do let_go(gate) end
return {redis.call('HGET', event, 'state'), unsent, changed, shut(), following}
