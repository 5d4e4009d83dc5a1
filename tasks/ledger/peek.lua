-- Look at what lies at the end of one of the lists that others publish to, for whoever keeps the door.
-- ARGV  queue, who asks, how long it keeps the door in milliseconds, tries after which messages are taken one by one, most
--       messages, most bytes, events in the ledger from which on the messages wait where they are, bytes from which on a
--       message goes into quarantine unread, an id for it, then each list and whose it is, in the order in which they are
--       looked at
-- Gives {'other'} when somebody else keeps the door, {'full'}, {'empty'}, {'large', list} when one went into quarantine, or
-- {'found', list, tries so far, messages, the oldest first}
local DOOR, TRIES = 'router:door', 'router:door:tries'
local me, keep, careful_from, most, bytes = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local keeper = redis.call('GET', DOOR)
if keeper and keeper ~= me then return {'other'} end
redis.call('SET', DOOR, me, 'PX', keep)
local waiting = 0
for state, key in pairs(WAITS) do
  if state ~= 'scheduled' then waiting = waiting + redis.call('ZCARD', key) end
end
if waiting >= tonumber(ARGV[7]) then return {'full'} end
for i = 10, #ARGV, 2 do
  local list = ARGV[i]
  local length = redis.call('LLEN', list)
  if length > 0 then
    local first = redis.call('LINDEX', list, -1)
    if #first > tonumber(ARGV[8]) then
      redis.call('RPOP', list)
      redis.call('HDEL', TRIES, list)
      keep_message(ARGV[9], first, 'invalid', 'the message is larger than ' .. ARGV[8] .. ' bytes', 'message', ARGV[i + 1], list)
      taken_in()
      return {'large', list}
    end
    -- Whoever looked before and did not come to an end died, perhaps of one of these: then one by one, until all that it
    -- may have had are through.
    local tries = redis.call('HINCRBY', TRIES, list, 1)
    if tries >= careful_from then redis.call('HSET', TRIES, 'careful:' .. list, most) end
    local careful = tonumber(redis.call('HGET', TRIES, 'careful:' .. list) or '0') > 0
    local raw, size = {first}, #first
    for n = 2, careful and 1 or math.min(length, most) do
      local message = redis.call('LINDEX', list, -n)
      size = size + #message
      if size > bytes then break end
      raw[n] = message
    end
    return {'found', list, careful and tries or 1, raw}
  end
end
return {'empty'}
