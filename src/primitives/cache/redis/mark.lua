local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('SET', KEYS[1], run .. ' ' .. epoch .. ' ' .. now .. ' ' .. ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
