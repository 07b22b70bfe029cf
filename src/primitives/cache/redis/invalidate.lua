local number = redis.call('INCR', KEYS[2])
for i = 3, #KEYS do redis.call('SET', KEYS[i], number, 'PX', ARGV[2]) end
return number
