-- Look at what lies at the end of one of the lists that others publish to, for whoever keeps the door.
-- ARGV  queue, who asks, how long it keeps the door in milliseconds, tries after which messages are taken one by one, most
--       messages, most bytes, events in the ledger from which on the messages wait where they are, then the lists, in the
--       order in which they are looked at
-- Gives {} when somebody else keeps the door or nothing is there; or {list, tries so far, messages, the oldest first}
local DOOR, TRIES = 'router:door', 'router:door:tries'
local me, keep, careful_from, most, bytes = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local keeper = redis.call('GET', DOOR)
if keeper and keeper ~= me then return {} end
redis.call('SET', DOOR, me, 'PX', keep)
local waiting = 0
for state, key in pairs(WAITS) do
  if state ~= 'scheduled' then waiting = waiting + redis.call('ZCARD', key) end
end
if waiting >= tonumber(ARGV[7]) then return {} end
for i = 8, #ARGV do
  local list = ARGV[i]
  if redis.call('LLEN', list) > 0 then
    -- Whoever looked before and did not come to an end died, perhaps of one of these: then one by one, until all that it
    -- may have had are through.
    local tries = redis.call('HINCRBY', TRIES, list, 1)
    if tries >= careful_from then redis.call('HSET', TRIES, 'careful:' .. list, most) end
    local careful = tonumber(redis.call('HGET', TRIES, 'careful:' .. list) or '0') > 0
    local raw, size = {}, 0
    local found = redis.call('LRANGE', list, careful and -1 or -most, -1)
    for n = #found, 1, -1 do
      size = size + #found[n]
      if n < #found and size > bytes then break end
      raw[#raw + 1] = found[n]
    end
    return {list, careful and tries or 1, raw}
  end
end
return {}
