-- Take a lease on each event of a ticket that is free to be worked on.
-- ARGV  queue, owner, lease in microseconds, crashes from which an event runs apart from other suspects, then the ids
-- Gives {gates that are shut, {id, blocked destinations, 1 when its subject has dead letters, hash} for each event taken}
-- Not given out: settled, leased, not due, not first in its line, unknown.
local owner, lease, apart = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local CLAIMED = 'router:claimed'

-- Two events that were both there when a worker died must not run together again, or the innocent one shares the
-- guilty one's fate until both count as poison.
local function another_suspect_runs(id)
  local other = redis.call('GET', SUSPECT)
  if not other or other == id then return false end
  local until_ = redis.call('ZSCORE', WAITS.running, other)
  return until_ and tonumber(until_) > now
end

local answer, newest = {shut()}, 0
for i = 5, #ARGV do
  local id = ARGV[i]
  local event = event_key(id)
  local state = redis.call('HGET', event, 'state')
  -- Ours already: the same call once more, its answer was lost on the way.
  local free = state == 'accepted' or (state == 'running' and redis.call('HGET', event, 'owner') == owner)
  if state == 'retrying' then
    local due = redis.call('ZSCORE', WAITS.retrying, id)
    free = due and tonumber(due) <= now
  end
  local crashes = free and tonumber(redis.call('HGET', event, 'crashes') or '0') or 0
  if free and crashes >= apart and another_suspect_runs(id) then
    free = false
    move(id, 'retrying', now + 250000)
  end
  if free then
    if crashes >= apart then redis.call('SET', SUSPECT, id) end
    local ticketed = tonumber(redis.call('ZSCORE', WAITS.accepted, id) or '0')
    if ticketed > newest then newest = ticketed end
    answer[#answer + 1] = taken(id, owner, lease)
  end
end
if newest > tonumber(redis.call('GET', CLAIMED) or '0') then
  redis.call('SET', CLAIMED, micros(newest))
end
return answer
