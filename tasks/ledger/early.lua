-- Events that waited long enough for somebody to know whom they are about: they go on with what any of their keys
-- tells, or without a subject.
-- ARGV  queue, how long to remember a person in seconds, then the ids
-- Gives {unsent tickets, the ids that go on}
local remember, gone = ARGV[2], {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local due = redis.call('ZSCORE', WAITS.unidentified, id)
  if due and tonumber(due) <= now then
    local keys = keys_of(id)
    local known = known_by(keys, true)
    if #keys > 0 then redis.call('LREM', early_key(keys[1]), 1, id) end
    go_on(id, known)
    if known then
      teach(keys, known, remember)
    else
      count('source', redis.call('HGET', event_key(id), 'source'), 'unidentified', 1)
    end
    gone[#gone + 1] = id
  end
end
return {unsent, gone}
