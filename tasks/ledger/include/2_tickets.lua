-- Tickets: Celery messages of protocol 2, as kombu's Redis transport keeps them in the queue's list
-- (https://docs.celeryq.dev/en/stable/internals/protocol.html). tests/contract proves that Celery reads them as its own.
local TICKET = '{"body":$body,"content-encoding":"utf-8","content-type":"application/json","headers":{"lang":"py",'
  .. '"task":"events.route","id":$id,"shadow":$shadow,"eta":null,"expires":null,"group":null,"group_index":null,'
  .. '"retries":0,"timelimit":[null,null],"root_id":$id,"parent_id":null,"argsrepr":$argsrepr,"kwargsrepr":"{}",'
  .. '"origin":"event-router","ignore_result":true,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{}},'
  .. '"properties":{"correlation_id":$id,"reply_to":"","delivery_mode":2,"delivery_info":{"exchange":"",'
  .. '"routing_key":"events"},"priority":0,"body_encoding":"utf-8","delivery_tag":$id}}'
local CALL = '[[[$ids]],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'

-- What the script's caller has to carry to another broker: for each ticket its label, then its ids.
local unsent = {}

local function quoted(text)
  local escaped = string.gsub(text, '[%c"\\]', function(char) return string.format('\\u%04x', string.byte(char)) end)
  return '"' .. escaped .. '"'
end

local function filled(template, values) return (string.gsub(template, '%$(%l+)', values)) end

local function push_ticket(ids, label)
  if queue == '' then
    unsent[#unsent + 1] = {label, unpack(ids)}
    return
  end
  local listed = {}
  for i = 1, #ids do listed[i] = quoted(ids[i]) end
  local serial = quoted(micros(now) .. '-' .. redis.call('INCR', 'router:tickets'))
  local args = #ids == 1 and "('" .. ids[1] .. "',)" or "('" .. ids[1] .. "', …" .. #ids .. ')'
  redis.call('LPUSH', queue, filled(TICKET, {
    id = serial, shadow = quoted(label), argsrepr = quoted(args),
    body = quoted(filled(CALL, {ids = table.concat(listed, ',')})),
  }))
end

-- An event is free to be worked on: a ticket says so.
local function wake(id)
  move(id, 'accepted', now)
  push_ticket({id}, redis.call('HGET', event_key(id), 'label') or '')
end

-- settle.lua: takes a held event for its caller, and says whether it did; that saves a ticket and a claim.
local take_held = nil

-- A delivery of an event may go on: if nobody works on the event now, and nobody is told to already.
local function wake_waiting(id)
  local state = redis.call('HGET', event_key(id), 'state')
  if state == 'held' and take_held and take_held(id) then return end
  if state == 'held' or state == 'retrying' then wake(id) end
end

-- A delivery is to go whose destinations are not known yet, or whose place in order is lost: its event goes through its
-- subject's line again, so that it neither overtakes nor runs beside another one. Gives false when it is at work just now.
local function wake_in_line(id)
  local event = event_key(id)
  local state, subject = unpack(redis.call('HMGET', event, 'state', 'subject'))
  if state == 'accepted' or state == 'running' then return false end
  if state == 'lined' then return true end
  local line = subject and line_key(subject)
  if line and redis.call('LINDEX', line, 0) ~= id and redis.call('RPUSH', line, id) > 1 then
    move(id, 'lined', now)
  else
    wake(id)
  end
  return true
end
