-- Announces a write, before its SQL or just before its COMMIT.
-- ARGV: token, block ms, keep ms, channel
-- Returns {'placed' | 'busy', now}.
local token, block_ms, tombstone_ms, channel = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local deadline = now + block_ms
local gone_at = deadline + tombstone_ms
local mine = { text = slot(token, deadline) }

local entry = read()
if not entry then
  tombstone(ZERO, now + tombstone_ms, claims_of({ mine }), gone_at)
  announce(channel)
  return { 'placed', now }
end
if #entry.writers >= 50 then return { 'busy', now } end
-- The others stay, also those whose time is up: while one is listed, nobody can be sure what it did.
local writers = entry.writers
writers[#writers + 1] = mine
tombstone(entry.floor, math.max(entry.floor_until, now + tombstone_ms), claims_of(writers),
  math.max(expiry(), gone_at))
announce(channel)
return { 'placed', now }
