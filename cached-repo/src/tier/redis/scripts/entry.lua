-- What every script shares: the entry under KEYS[1], and how to write one.
-- The layout is that of protocol/entry.rs: kind(1) version(19) at(13) span(10) cost(5) schema(8)
-- claims(2), then token(11) deadline(13) per claim, then the payload. Versions are compared as
-- strings of 19 digits, because Lua's numbers lose precision beyond 2^53.
local key = KEYS[1]
local HEADER, TOKEN, SLOT = 58, 11, 24
local ZERO = string.rep('0', 19)
-- The token of a write, or its whole claim, once it may no longer put its row.
local function voided(text) return text:sub(1, TOKEN - 1) .. '*' .. text:sub(TOKEN + 1) end

local function digits(width, number) return string.format('%0' .. width .. '.0f', number) end
local function slot(token, deadline) return token .. digits(13, deadline) end

-- The entry, or nil when the key holds nothing, or nothing of ours.
local function read()
  local header = redis.pcall('GETRANGE', key, 0, HEADER - 1)
  if type(header) ~= 'string' or #header ~= HEADER or not header:find('^[VAT]')
    or header:sub(2, 48):find('%D') or header:sub(49, 56):find('%X') then
    return nil
  end
  local claims = header:sub(57, 58)
  local leased = claims == 'L1'
  local count = leased and 1 or not claims:find('%D') and tonumber(claims) or 99
  if count > 50 then return nil end
  local slots = {}
  if count > 0 then
    local text = redis.call('GETRANGE', key, HEADER, HEADER + count * SLOT - 1)
    for i = 0, count - 1 do
      local one = text:sub(i * SLOT + 1, (i + 1) * SLOT)
      if #one ~= SLOT or one:sub(TOKEN + 1):find('%D') then return nil end
      slots[i + 1] = { text = one, token = one:sub(1, TOKEN), deadline = tonumber(one:sub(TOKEN + 1)) }
    end
  end
  local entry = {
    kind = header:sub(1, 1), version = header:sub(2, 20), fixed = header:sub(1, 56),
    fresh_until = tonumber(header:sub(21, 33)) + tonumber(header:sub(34, 43)),
    lease = leased and slots[1] or nil, writers = leased and {} or slots,
    body = HEADER + count * SLOT,
    expires = redis.call('PEXPIRETIME', key),
  }
  -- Until when a tombstone's floor holds; other entries have their value instead.
  entry.floor_until = entry.kind == 'T' and entry.fresh_until or 0
  -- The version below which nothing may be stored: a tombstone's lapses.
  entry.floor = entry.kind == 'T' and entry.fresh_until <= now and ZERO or entry.version
  return entry
end

local function payload(entry) return redis.call('GETRANGE', key, entry.body, -1) end

local function claims_of(writers)
  local text = {}
  for i, writer in ipairs(writers) do text[i] = writer.text end
  return digits(2, #writers) .. table.concat(text)
end

-- Writes a tombstone that expires at the given moment.
local function tombstone(version, floor_until, claims, expires)
  local span = math.min(math.max(floor_until - now, 0), 9999999999)
  redis.call('SET', key, 'T' .. version .. digits(13, now) .. digits(10, span) .. '0000000000000'
    .. claims, 'PXAT', digits(1, expires))
end

-- Writes a value or an absent: cost and schema as the client spells them.
local function hold(kind, version, fresh_ms, cost, schema, claims, body, expires)
  redis.call('SET', key, kind .. version .. digits(13, now) .. digits(10, fresh_ms) .. cost
    .. schema .. claims .. body, 'PXAT', digits(1, expires))
end

-- Tells the near caches that the row may have changed.
local function announce(channel)
  if channel ~= '' then redis.call('PUBLISH', channel, key) end
end

-- Replaces the claims and leaves the rest of the entry as it is.
local function reclaim(entry, claims)
  redis.call('SET', key, entry.fixed .. claims .. payload(entry), 'KEEPTTL')
end
