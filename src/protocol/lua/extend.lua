-- Sets the ttl of a key that holds our value, and never shortens it: this may be a late command of a dead connection,
-- and a longer extend may have run since.
-- KEYS[1] key; ARGV[1] our value; ARGV[2] ttl in milliseconds.
-- Returns 1: the key lives at least that long; nil: the key is gone; a string: the holder's value; or an error of GET,
-- PTTL or PEXPIRE as redis worded it.
local holder = redis.pcall('get', KEYS[1])
if holder == ARGV[1] then
  local longer = redis.pcall('pexpire', KEYS[1], ARGV[2], 'GT')
  if longer == 1 then
    return 1
  end
  -- Redis has GT since 7.0.
  if type(longer) == 'table' and not string.find(longer.err, 'rong number of arg') then
    return longer
  end
  -- An old server that replicates scripts and not their effects allows a write after PTTL only with this.
  if redis.replicate_commands then redis.replicate_commands() end
  local left = redis.pcall('pttl', KEYS[1])
  if type(left) == 'table' then
    return longer == 0 and 1 or left
  end
  -- -1 is also less: somebody has removed the ttl.
  if left < tonumber(ARGV[2]) then
    return redis.pcall('pexpire', KEYS[1], ARGV[2])
  end
end
-- Only a master's reply counts: a server that was demoted answers from an outdated copy. GETEX reads as GET does, but
-- only a master accepts it.
local authority = redis.pcall('getex', KEYS[1])
if type(authority) == 'table' and authority.err and string.find(authority.err, 'READONLY') then
  return authority
end
if holder == ARGV[1] then
  return 1
end
return holder
