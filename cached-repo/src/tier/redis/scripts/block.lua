-- Announces a write, before its SQL or just before its COMMIT: until it is done or its time is up,
-- nothing is served or stored.
-- ARGV: token, block ms, keep ms, channel
-- Returns {'placed', now}.
local token, block_ms, tombstone_ms, channel = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local deadline = now + block_ms
local gone_at = deadline + tombstone_ms

-- One slot for both.
local function shared(a, b)
  local latest = math.max(a.deadline, b.deadline)
  return { text = slot(SHARED, latest), deadline = latest }
end

-- The writers, with room for one more. Those whose time is up share a slot, and so do the oldest
-- that find no room. None is left out: while one is listed, nobody can be sure what it did.
local function condensed(writers)
  local lapsed, slots = nil, {}
  for _, writer in ipairs(writers) do
    if writer.deadline > now then
      slots[#slots + 1] = writer
    else
      lapsed = lapsed and shared(lapsed, writer) or writer
    end
  end
  if lapsed then table.insert(slots, 1, lapsed) end
  while #slots >= MOST_SLOTS do slots[1] = shared(slots[1], table.remove(slots, 2)) end
  return slots
end

local entry = read()
local writers = entry and condensed(entry.writers) or {}
writers[#writers + 1] = { text = slot(token, deadline) }
local floor_until = math.max(entry and entry.floor_until or 0, now + tombstone_ms)
tombstone(entry and entry.floor or ZERO, floor_until, claims_of(writers),
  math.max(entry and expiry() or 0, gone_at))
announce(channel)
return { 'placed', now }
