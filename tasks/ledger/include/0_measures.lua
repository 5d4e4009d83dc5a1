-- Numbers for /metrics beside those of router:counts: only ever growing, and nothing but people looks at them.
--
-- router:metrics        hash: <metric>/<label>/… → number; of a histogram <metric>/<label>/…/<upper bound in seconds, or inf>
--                       → how many, and …/sum → microseconds. Names and labels: config/metrics.py
-- router:metrics:names  set: sources that no file names and that have a label of their own all the same
-- router:metrics:batch:<process>  string: the last batch of that process that is counted (ledger/measured.lua)
local METRICS = 'router:metrics'

local function measure(...) redis.call('HINCRBY', METRICS, table.concat({...}, '/'), 1) end

-- `bounds` are in seconds; a table made anew at each call, and only then: most scripts have no use for it.
local function observe(micros_, bounds, ...)
  local row, bucket = table.concat({...}, '/'), 'inf'
  for i = 1, #bounds do
    if micros_ <= bounds[i] * 1000000 then
      bucket = tostring(bounds[i])
      break
    end
  end
  redis.call('HINCRBY', METRICS, row .. '/' .. bucket, 1)
  redis.call('HINCRBY', METRICS, row .. '/sum', string.format('%.0f', micros_))
end

-- The reason that stands in the record of a dead letter without attempts.
local function reason_in(record) return string.match(record, '"reason": ?"([%l_]+)"') or 'bug' end
