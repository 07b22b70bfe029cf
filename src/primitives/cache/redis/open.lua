-- An entry is known by its number and its refreshAt, as coding.ts writes them. A lease says when its load began: nobody waits for a
-- load that began before the last invalidation.
local number = tonumber(count)
if redis.call('GETRANGE', KEYS[4], 2, 17) ~= ARGV[5] then return { number, 2 } end
local last = 0
for i = 5, #KEYS do
  local known = redis.call('GET', KEYS[i])
  if known then redis.call('PEXPIRE', KEYS[i], ARGV[4]) else redis.call('SET', KEYS[i], count, 'PX', ARGV[4]) end
  last = math.max(last, tonumber(known or count))
end
local holder = redis.call('GET', KEYS[3])
local since, id = string.match(holder or '', '^(%d+) (.+)$')
if holder and id ~= ARGV[2] and tonumber(since) >= last then return { number, 0 } end
redis.call('SET', KEYS[3], count .. ' ' .. ARGV[2], 'PX', ARGV[3])
return { number, 1 }
