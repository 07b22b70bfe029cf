-- Put after in-epoch.lua. If the counter was evicted, nothing can be compared any more: that ends the epoch.
local count = redis.call('GET', KEYS[2])
if not count then
  redis.call('DEL', KEYS[1])
  return false
end
