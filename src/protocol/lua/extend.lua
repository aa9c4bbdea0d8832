-- Makes a key that holds our value live for at least the given time. It never shortens that: this may be a late command of
-- a connection that is long dead, and a longer extend have run since.
-- KEYS[1] key; ARGV[1] our value; ARGV[2] ttl in milliseconds.
-- 1: it lives that long; nil: the key is gone; a string: who holds it now; an error of GET, PTTL or PEXPIRE, as redis
-- worded it.
local holder = redis.pcall('get', KEYS[1])
if holder == ARGV[1] then
  local longer = redis.pcall('pexpire', KEYS[1], ARGV[2], 'GT')
  if longer == 1 then
    return 1
  end
  -- Before redis 7 there is no GT.
  if type(longer) == 'table' and not string.find(longer.err, 'rong number of arg') then
    return longer
  end
  -- Only an old server that was told to replicate scripts and not their effects needs this, to write after a PTTL.
  if redis.replicate_commands then redis.replicate_commands() end
  local left = redis.pcall('pttl', KEYS[1])
  if type(left) == 'table' then
    return longer == 0 and 1 or left
  end
  -- Or -1: somebody has taken its end away.
  if left < tonumber(ARGV[2]) then
    return redis.pcall('pexpire', KEYS[1], ARGV[2])
  end
end
-- A server that was demoted answers from a copy that is no authority on what we hold. GETEX reads as well, but only a
-- master may be asked.
local authority = redis.pcall('getex', KEYS[1])
if type(authority) == 'table' and authority.err and string.find(authority.err, 'READONLY') then
  return authority
end
if holder == ARGV[1] then
  return 1
end
return holder
