-- Gates: one for each destination, and one for each route ("route:<name>"). What comes to a gate that is shut is
-- parked, and let go again in order of acceptance, as many at a time as the gate allows.
--
-- router:gate:<name>    hash: paused, by; mode, until, since, row, slower, cut, wait, window, knee,
--                       heard; rate, concurrency, tokens, at
--   mode      flowing (or none), or until `until`: open | throttled | unauthorized | busy; then probing | ramping
--   window    how many may be in flight; it doubles with each round trip that goes well, above `knee` it grows by one
-- router:parked:<name>  zset: delivery → when its event was accepted
-- router:flight:<name>  zset: delivery that was let go → when it counts as lost
-- router:shut           set: the gates through which nothing goes without having been let go
local FLIGHT = 60000000
local MANY = 1000
local FIRST_WINDOW = 16
local SLOWEST_WINDOW = 4
local PAUSE_WHEN_BUSY = 200000
-- Mode that lasts until a time → what follows on it.
local AFTER = {open = 'probing', unauthorized = 'probing', throttled = 'ramping', busy = 'ramping'}

-- What changed for the worse or the better: {gate, mode, ...}, for the log of whoever called.
local changed = {}

local function is_route(gate) return string.sub(gate, 1, 6) == 'route:' end
local function gate_key(gate) return 'router:gate:' .. gate end
local function parked_key(gate) return 'router:parked:' .. gate end
local function flight_key(gate) return 'router:flight:' .. gate end

local function set_mode(gate, mode, until_)
  redis.call('HSET', gate_key(gate), 'mode', mode, 'until', micros(until_ or 0), 'since', micros(now))
  redis.call('SADD', SHUT, gate)
  changed[#changed + 1] = gate
  changed[#changed + 1] = mode
end

-- Nothing waits at the gate and nothing limits it: from now on it is not asked any more.
local function stand_open(gate)
  local key = gate_key(gate)
  local mode, paused, rate, concurrency, window =
    unpack(redis.call('HMGET', key, 'mode', 'paused', 'rate', 'concurrency', 'window'))
  if paused or AFTER[mode] or mode == 'probing' then return end
  -- It asked for less, and nothing went well since.
  if redis.call('HEXISTS', key, 'slower') == 1 or redis.call('ZCARD', parked_key(gate)) > 0 then return end
  -- What is under way to a destination need not be waited for when there is room for as much again; what a route has let
  -- go may still stand in its subject's line, and nothing is to overtake it.
  local flying = redis.call('ZCARD', flight_key(gate))
  local wide = mode == 'ramping' and not is_route(gate) and tonumber(window or '0') >= FIRST_WINDOW
  local roomy = wide and 2 * flying <= tonumber(window)
  if flying > 0 and not roomy then return end
  if mode and mode ~= 'flowing' then
    set_mode(gate, 'flowing')
    redis.call('HDEL', key, 'until', 'wait', 'window', 'knee', 'row', 'slower', 'cut', 'heard')
  end
  if not rate and not concurrency then redis.call('SREM', SHUT, gate) end
end

-- Let parked deliveries go, the earliest accepted first.
local function let_go(gate)
  local key, flight = gate_key(gate), flight_key(gate)
  local paused, mode, until_, window, rate, concurrency, tokens, at =
    unpack(redis.call('HMGET', key, 'paused', 'mode', 'until', 'window', 'rate', 'concurrency', 'tokens', 'at'))
  if paused then return end
  if AFTER[mode] then
    if now < tonumber(until_) then return end
    mode = AFTER[mode]
    if mode == 'probing' then
      window = 1
      redis.call('HSET', key, 'window', 1)
    end
    set_mode(gate, mode)
  end
  local overdue = redis.call('ZRANGEBYSCORE', flight, '-inf', micros(now))
  for i = 1, #overdue do
    local id, route = parts(overdue[i])
    if redis.call('HGET', event_key(id), 's:' .. route) == 'let:' .. gate then
      redis.call('ZADD', flight, micros(now + FLIGHT), overdue[i])
    else
      redis.call('ZREM', flight, overdue[i])
    end
  end
  local most = math.min(tonumber(window or MANY), tonumber(concurrency or MANY))
  local room = math.floor(most) - redis.call('ZCARD', flight)
  if rate then
    -- A bucket of a quarter second: what is let go comes evenly, and a pause saves nothing up.
    rate = tonumber(rate)
    local bucket = math.max(1, rate / 4)
    tokens = math.min(bucket, tonumber(tokens or bucket) + math.max(0, now - tonumber(at or now)) * rate / 1000000)
    room = math.min(room, math.floor(tokens))
  end
  while room > 0 do
    local first = redis.call('ZPOPMIN', parked_key(gate))
    if #first == 0 then break end
    local id, route = parts(first[1])
    local event = event_key(id)
    if redis.call('HGET', event, 's:' .. route) == 'parked:' .. gate then
      local lines_up = is_route(gate) and redis.call('HEXISTS', event, 'l:' .. route) == 0
      if lines_up and not wake_in_line(id) then
        -- It is at work on something else: nothing younger is to go before it. In a moment we look again.
        redis.call('ZADD', parked_key(gate), first[2], first[1])
        break
      end
      redis.call('HSET', event, 's:' .. route, 'let:' .. gate)
      if not lines_up then wake_waiting(id) end
      redis.call('ZADD', flight, micros(now + FLIGHT), first[1])
      room = room - 1
      if rate then tokens = tokens - 1 end
    end
  end
  if rate then redis.call('HSET', key, 'tokens', string.format('%.3f', tokens), 'at', micros(now)) end
  stand_open(gate)
end

-- How a request to a destination went. Policy: failures in a row that open the gate, first wait, longest wait, wait
-- after a refusal of our key (all in microseconds).
local function hear(gate, verdict, wait, policy)
  local key = gate_key(gate)
  if verdict == 'ok' and redis.call('EXISTS', key) == 0 then return end
  local mode, waited, window, knee, until_ = unpack(redis.call('HMGET', key, 'mode', 'wait', 'window', 'knee', 'until'))
  waited, window = tonumber(waited or 0), tonumber(window or 0)
  if verdict == 'ok' then
    redis.call('HDEL', key, 'row', 'slower')
    -- What was under way when the gate shut says nothing of it now.
    if mode == 'probing' or mode == 'ramping' then redis.call('HSET', key, 'heard', micros(now)) end
    if window > 0 then
      window = math.min(MANY, window + (knee and window >= tonumber(knee) and 1 / window or 1))
      redis.call('HSET', key, 'window', string.format('%.3f', window))
    end
    if mode == 'probing' then
      redis.call('HDEL', key, 'wait', 'knee')
      set_mode(gate, 'ramping')
    end
  elseif verdict == 'failed' then
    if mode ~= 'busy' and AFTER[mode] then return end
    local row = redis.call('HINCRBY', key, 'row', 1)
    if mode == 'probing' or row >= policy.failures then
      -- Each probe that fails doubles the wait for the next one.
      wait = math.max(policy.wait, mode == 'probing' and math.min(policy.most_wait, 2 * waited) or 0)
      redis.call('HSET', key, 'wait', micros(wait))
      redis.call('HDEL', key, 'row')
      set_mode(gate, 'open', now + wait)
    end
  elseif verdict == 'throttled' and wait > 0 then
    if mode == 'throttled' then
      redis.call('HSET', key, 'until', micros(math.max(tonumber(until_), now + wait)))
    elseif mode ~= 'open' and mode ~= 'unauthorized' then
      redis.call('HSET', key, 'window', 1)
      set_mode(gate, 'throttled', now + wait)
    end
  elseif verdict == 'throttled' and (mode == 'throttled' or mode == 'busy' or not AFTER[mode]) then
    -- Without a time to wait for it means: not so fast. Said again and again before anything went well: wait, longer
    -- each time. What was under way when we slowed down says nothing new.
    local row = redis.call('HINCRBY', key, 'slower', 1)
    if now - tonumber(redis.call('HGET', key, 'cut') or '0') > PAUSE_WHEN_BUSY / 2 then
      window = math.max(SLOWEST_WINDOW, math.floor((window > 0 and window or 2 * FIRST_WINDOW) * 0.7))
      redis.call('HSET', key, 'window', window, 'knee', window, 'cut', micros(now))
    end
    if row >= SLOWEST_WINDOW then
      set_mode(gate, 'throttled', now + math.min(policy.most_wait, PAUSE_WHEN_BUSY * 2 ^ (row - SLOWEST_WINDOW)))
    elseif mode ~= 'throttled' and mode ~= 'ramping' then
      set_mode(gate, 'ramping')
    end
  elseif verdict == 'unauthorized' and mode ~= 'unauthorized' then
    redis.call('HDEL', key, 'heard')
    set_mode(gate, 'unauthorized', now + policy.refused_wait)
  elseif verdict == 'busy' and mode == 'probing' then
    set_mode(gate, 'open', now + PAUSE_WHEN_BUSY)
  elseif verdict == 'busy' and (mode == 'busy' or not AFTER[mode]) then
    -- Every thread that may serve this destination does: let fewer go at a time.
    if mode ~= 'busy' then
      window = math.max(1, math.floor((window > 0 and window or 2 * FIRST_WINDOW) / 2))
      redis.call('HSET', key, 'window', window, 'knee', window)
    end
    set_mode(gate, 'busy', now + PAUSE_WHEN_BUSY)
  end
end

local function park(gate, member, accepted_at)
  redis.call('ZADD', parked_key(gate), accepted_at, member)
  redis.call('SADD', SHUT, gate)
end

-- Gates that are shut, and how: {gate, mode, when it last heard of a success, ...}
local function shut()
  local found = {}
  local gates = redis.call('SMEMBERS', SHUT)
  for i = 1, #gates do
    local paused, mode, heard = unpack(redis.call('HMGET', gate_key(gates[i]), 'paused', 'mode', 'heard'))
    found[#found + 1] = gates[i]
    found[#found + 1] = paused and 'paused' or mode or 'flowing'
    found[#found + 1] = heard or '0'
  end
  return found
end

-- A route that fails for reasons of its own (bug, invalid; or nothing but those and unmappable) pauses itself.
local function hear_route(route, failure, policy)
  if route == '-' then return end
  local gate = 'route:' .. route
  local key = gate_key(gate)
  if failure == '' and redis.call('HEXISTS', key, 'from') == 0 then return end
  local from = tonumber(redis.call('HGET', key, 'from') or '0')
  if now - from > policy.route_window then
    redis.call('HDEL', key, 'from', 'ended', 'broken', 'unmappable')
    if failure == '' then return end
    redis.call('HSET', key, 'from', micros(now))
  end
  local ended = redis.call('HINCRBY', key, 'ended', 1)
  if failure == '' then return end
  redis.call('HINCRBY', key, failure == 'unmappable' and failure or 'broken', 1)
  local broken, unmappable, paused = unpack(redis.call('HMGET', key, 'broken', 'unmappable', 'paused'))
  broken, unmappable = tonumber(broken or 0), tonumber(unmappable or 0)
  local bad = broken / ended >= policy.route_ratio and broken >= policy.route_failures
  if not paused and (bad or (broken + unmappable == ended and ended >= policy.route_failures)) then
    redis.call('HSET', key, 'paused', micros(now), 'by', 'router')
    redis.call('SADD', SHUT, gate)
    changed[#changed + 1] = gate
    changed[#changed + 1] = 'paused'
  end
end
