-- Taking events in: dedupe, envelope into the ledger, into its subject's line. Whose turn it is goes into tickets.
local LAST = 'router:last'
local tallies, heads, head_label, head_source = {}, {}, nil, nil
-- Time of acceptance of the next event. Each has one of its own: what is put back later is put back in this order.
local next_at = nil

local function tally(source, state)
  local row = tallies[source] or {}
  row[state] = (row[state] or 0) + 1
  tallies[source] = row
end

local function push_heads()
  if #heads == 0 then return end
  push_ticket(heads, #heads == 1 and head_label or head_source .. ' · ' .. #heads .. ' events')
  heads, head_source = {}, nil
end

local function is_new(source, id)
  tally(source, 'accepted')
  local new = redis.call('EXISTS', event_key(id)) == 0
  if not new then tally(source, 'duplicate') end
  return new
end

local function write_event(source, id, label, type_, envelope)
  next_at = next_at or math.max(now, tonumber(redis.call('GET', LAST) or '0') + 1)
  redis.call('HSET', event_key(id), 'at', micros(next_at), 'source', source, 'label', label, 'type', type_, 'env', envelope)
  next_at = next_at + 1
end

-- It takes its place: in its subject's line, or among those of whom nobody knows yet whom they are about. Gives its state.
local function place(id, envelope, subject, said, keys, wait, remember)
  local event, state = event_key(id), nil
  local seeks = said == '' and subject == '' and #keys > 0
  local known = seeks and not others_wait(keys) and known_by(keys)
  if known then
    redis.call('HSET', event, 'env', completed(envelope, known))
    subject = string.match(known, '^%S*')
  end
  if seeks and not known then
    state = 'unidentified'
    redis.call('HSET', event, 'keys', table.concat(keys, ' '))
    redis.call('RPUSH', early_key(keys[1]), id)
  else
    state = enter(event, id, subject)
  end
  redis.call('HSET', event, 'state', state)
  redis.call('ZADD', WAITS[state], micros(state == 'unidentified' and now + wait or now), id)
  if said ~= '' then known = subject .. ' ' .. said end
  if known then teach(keys, known, remember, said ~= '') end
  return state
end

-- An event whose turn it is goes into a ticket with others: enough to make Celery's cost of a message small, few enough
-- that a thread is done with them soon.
local function head(source, id, label, most)
  heads[#heads + 1], head_label = id, label
  head_source = (head_source == nil or head_source == source) and source or 'several'
  if #heads >= most then push_heads() end
end

-- Accepted, and dead at once.
local function bury(source, id, label, type_, envelope, record)
  local new = is_new(source, id)
  if new then
    write_event(source, id, label, type_, envelope)
    redis.call('HSET', event_key(id), 'state', 'dead', 'ended', micros(now), 's:-', 'dead', 'd:-', record)
    redis.call('ZADD', DEAD, micros(now), id .. ':-')
    tally(source, 'dead')
    count('route', '-', 'accepted', 1)
    count('route', '-', 'dead', 1)
    measure('source_dead_letters_total', source, reason_in(record))
    measure('route_dead_letters_total', '-', '-', reason_in(record))
  end
  return new
end

-- At the end: the tickets, the clock, the counts.
local function taken_in()
  push_heads()
  if next_at then redis.call('SET', LAST, micros(next_at)) end
  for source, row in pairs(tallies) do
    for state, number in pairs(row) do count('source', source, state, number) end
  end
end
