-- The value of the epoch's key: <run id> <epoch> <ms of the mark> <mark>
local run, renew, mark, ageMax, fresh = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local about = redis.call('GET', KEYS[1])
if about and renew == '0' then
  local r, e, at, m = string.match(about, '^(%S+) (%S+) (%S+) (.+)$')
  if r == run and now - tonumber(at) < ageMax then return { e, m } end
end
redis.call('SET', KEYS[1], run .. ' ' .. fresh .. ' ' .. string.format('%.0f', now) .. ' ' .. mark)
redis.call('SET', KEYS[2], 1, 'PX', ARGV[6])
return { fresh, mark }
