-- Keep events that are invalid by their content: accepted, and dead at once.
-- ARGV  queue, source, then id, label, type, envelope, record of the dead letter for each event
-- Gives 1 or 0 for each event: new or duplicate
local answer = {}
for at = 3, #ARGV, 5 do
  local new = bury(ARGV[2], ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
  answer[#answer + 1] = new and 1 or 0
end
taken_in()
return answer
