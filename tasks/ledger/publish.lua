-- Take messages off a list that others publish to, and into the ledger: each becomes events, dead letters or, if it cannot
-- be used at all, a message in quarantine. One step, so nothing is lost between, and nothing is taken twice.
-- ARGV  queue, list, number of messages, SHA-1 of them, one after the other as peek.lua gave them, '1' when they are taken
--       away (or more of what they carry comes with the next call), most events in a ticket,
--       how long to wait for an event's person and to remember it (seconds), then items:
--         'event', source, id, label, type, envelope, subject, what it says of its person, task that wants to know ('' =
--           none), due in microseconds ('' = now), microseconds between two events of its publisher and how many may come
--           at once ('' = no quota), number of correlation keys, the keys
--         'dead', source, id, label, type, envelope, record, task that wants to know, outcome
--         'keep', id, raw, reason, error, label, source
--         'ticket', raw    a ticket of ours
--         'answer', task that wants to know, outcome    of what became no event
--         'reply', task, seconds that the result is kept    in front of what the task brings
--         'whole', task    behind it
-- No messages: the items only, which another broker carried.
-- Gives {0} when the messages are not there (any more), or {1, unsent tickets, 1 or 0 for each event and dead letter}
local list, messages, away, most = ARGV[2], tonumber(ARGV[3]), ARGV[5] == '1', tonumber(ARGV[6])
local wait, remember = tonumber(ARGV[7]) * 1000000, ARGV[8]
local TRIES = 'router:door:tries'
local there, oldest_first = messages > 0 and redis.call('LRANGE', list, -messages, -1) or {}, {}
for n = #there, 1, -1 do oldest_first[#oldest_first + 1] = there[n] end
if #there ~= messages or redis.sha1hex(table.concat(oldest_first)) ~= ARGV[4] then return {0} end
if messages > 0 and away then
  redis.call('LTRIM', list, 0, -messages - 1)
  redis.call('HDEL', TRIES, list)
  local careful = 'careful:' .. list
  if redis.call('HEXISTS', TRIES, careful) == 1 and redis.call('HINCRBY', TRIES, careful, -messages) <= 0 then
    redis.call('HDEL', TRIES, careful)
  end
end

local result, at = {1, unsent}, 9
local take = {}

function take.event(source, id, label, type_, envelope, subject, said, task, due, gap, burst, number)
  local keys = {}
  for n = 1, tonumber(number) do keys[n] = ARGV[at + n - 1] end
  at = at + #keys
  id, envelope = own_id(source, id, envelope)
  local new = is_new(source, id)
  result[#result + 1] = new and 1 or 0
  if new then
    write_event(source, id, label, type_, envelope)
    tally(source, 'waiting')
    local asked, allowed = tonumber(due ~= '' and due or '0'), slot(source, tonumber(gap), tonumber(burst))
    if asked > now and asked >= (allowed or 0) then
      schedule(id, asked, subject, said, keys)
    elseif allowed then
      waits_for_quota(source, allowed)
      schedule(id, allowed, subject, said, keys, true)
    elseif place(id, envelope, subject, said, keys, wait, remember) == 'accepted' then
      head(source, id, label, most)
    end
  end
  if task ~= '' then ask(task, id) end
end

function take.dead(source, id, label, type_, envelope, record, task, outcome)
  id, envelope = own_id(source, id, envelope)
  local new = bury(source, id, label, type_, envelope, record)
  result[#result + 1] = new and 1 or 0
  if task ~= '' then
    expect_answer(task, id)
    answer(task, id, '!' .. outcome)
  end
end

function take.keep(id, raw, reason, error_, label, source) keep_message(id, raw, reason, error_, label, source, list) end

function take.answer(task, outcome)
  expect_answer(task, 'task')
  answer(task, 'task', '!' .. outcome)
end

function take.ticket(raw) redis.call('LPUSH', queue, raw) end

function take.reply(task, ttl) expect_reply(task, ttl) end

function take.whole(task) taken_whole(task) end

local WIDTH = {event = 12, dead = 8, keep = 6, ticket = 1, reply = 2, whole = 1, answer = 2}
while at <= #ARGV do
  local kind = ARGV[at]
  local values = {}
  for n = 1, WIDTH[kind] do values[n] = ARGV[at + n] end
  at = at + 1 + WIDTH[kind]
  take[kind](unpack(values))
end
taken_in()
return result
