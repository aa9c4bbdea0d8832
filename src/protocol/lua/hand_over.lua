-- Gives a key that holds our value to the next waiter of the same process: sets its value and its ttl.
-- KEYS[1] key; ARGV[1] our value; ARGV[2] ttl in milliseconds; ARGV[3] the next holder's value.
-- Returns 1: handed over; 2: deleted, because redis refused the SET (no memory, no permission); nil: the key is gone; a
-- string: the holder's value; or an error of GET or DEL as redis worded it.
local holder = redis.pcall('get', KEYS[1])
if holder ~= ARGV[1] then
  -- Only a master's reply counts, see extend.lua.
  local authority = redis.pcall('getex', KEYS[1])
  if type(authority) == 'table' and authority.err and string.find(authority.err, 'READONLY') then
    return authority
  end
  return holder
end
local reply = redis.pcall('set', KEYS[1], ARGV[3], 'PX', ARGV[2])
if not reply.err then
  return 1
end
reply = redis.pcall('del', KEYS[1])
if type(reply) == 'table' then
  return reply
end
return 2
