-- Keys, time, counts, and the state of one event. Stands in front of every script; so do the other files of this folder.
-- ARGV[1] of every script is the key of Celery's queue, '' where another broker carries the tickets.
local queue = ARGV[1]
local COUNTS, DEAD, SUSPECT, SHUT = 'router:counts', 'router:dead', 'router:suspect', 'router:shut'
local RETRYING_AT = 'router:retrying:at'
-- State of an event that has not ended → the sorted set it is in.
local WAITS = {
  accepted = 'router:accepted', running = 'router:running', retrying = 'router:retrying',
  lined = 'router:lined', held = 'router:held', unidentified = 'router:unidentified',
  scheduled = 'router:scheduled',
}
local ENDED = {delivered = true, filtered = true, dead = true, discarded = true}

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function micros(number) return string.format('%.0f', number) end
local function event_key(id) return 'router:event:' .. id end
local function line_key(subject) return 'router:line:' .. subject end

local function count(kind, name, state, by)
  redis.call('HINCRBY', COUNTS, kind .. '/' .. name .. '/' .. state, by)
end

-- An event leaves the set of its old state and enters that of its new one, with a time as score.
local function move(id, to, score)
  local event = event_key(id)
  local from = redis.call('HGET', event, 'state')
  if WAITS[from] and from ~= to then redis.call('ZREM', WAITS[from], id) end
  redis.call('ZADD', WAITS[to], micros(score), id)
  if to == 'retrying' then
    redis.call('ZADD', RETRYING_AT, redis.call('HGET', event, 'at') or '0', id)
  elseif from == 'retrying' then
    redis.call('ZREM', RETRYING_AT, id)
  end
  redis.call('HSET', event, 'state', to)
end

-- "<event id>:<route>", the id of a delivery: its two parts. An event's id may hold colons, a route's name does not.
local function parts(member) return string.match(member, '^(.*):([^:]*)$') end

-- Grave: subject → how many of its deliveries lie in the dead letters, and what was written about it since, and when.
local function grave_key(subject) return 'router:grave:' .. subject end

local function unbury(event, route)
  local subject = redis.call('HGET', event, 'subject')
  if subject and redis.call('HDEL', event, 'g:' .. route) == 1 then
    if redis.call('HINCRBY', grave_key(subject), '#', -1) <= 0 then redis.call('DEL', grave_key(subject)) end
  end
end
