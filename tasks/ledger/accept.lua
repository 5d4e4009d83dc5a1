-- Take events: back-pressure check, dedupe, envelope into the ledger, into its subject's line, tickets; all or nothing.
-- ARGV  queue, most that may wait, source, how long to wait for an event's person and to remember it (seconds), number of
--       events, then for each id, label, type, envelope, subject ('' = none), what the envelope says of its person
--       ('' = nothing), number of its correlation keys, the keys, its own first
-- Gives {'full'} or {'ok', unsent tickets, 1 or 0 for each event: new or duplicate}
local most, source = tonumber(ARGV[2]), ARGV[3]
local wait, remember, events = tonumber(ARGV[4]) * 1000000, ARGV[5], tonumber(ARGV[6])
local waiting = 0
for state, key in pairs(WAITS) do
  -- What is due next week is nobody's backlog.
  if state ~= 'scheduled' then waiting = waiting + redis.call('ZCARD', key) end
end
if waiting + events > most then
  return {'full'}
end
local answer, at = {'ok', unsent}, 7
for i = 1, events do
  local id, label, keys = ARGV[at], ARGV[at + 1], {}
  for n = 1, tonumber(ARGV[at + 6]) do keys[n] = ARGV[at + 6 + n] end
  local new = is_new(source, id)
  answer[i + 2] = new and 1 or 0
  if new then
    write_event(source, id, label, ARGV[at + 2], ARGV[at + 3])
    tally(source, 'waiting')
    local state = place(id, ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], keys, wait, remember)
    if state == 'accepted' then head(source, id, label, 25) end
  end
  at = at + 7 + #keys
end
taken_in()
return answer
