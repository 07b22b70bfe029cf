-- An entry carries its own number where coding.ts writes it: a double, little-endian, from byte 2.
local mine, ttl, tagMs = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('GET', KEYS[3]) == ARGV[3] .. ' ' .. ARGV[2] then redis.call('DEL', KEYS[3]) end
local good = true
for i = 5, #KEYS do
  local number = redis.call('GET', KEYS[i])
  if not number then
    redis.call('SET', KEYS[i], redis.call('INCR', KEYS[2]), 'PX', tagMs)
    good = false
  else
    if tonumber(number) > mine then good = false end
    if ttl + tagMs > redis.call('PTTL', KEYS[i]) then redis.call('PEXPIRE', KEYS[i], ttl + tagMs) end
  end
end
if not good then return 0 end
local there = redis.call('GETRANGE', KEYS[4], 2, 9)
if #there == 8 and struct.unpack('<d', there) > mine then return 0 end
redis.call('SET', KEYS[4], ARGV[6], 'PX', ttl)
return 1
