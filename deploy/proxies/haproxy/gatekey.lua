-- Asks Gatekey about a request, over HAProxy's own HTTP client. Whatever goes wrong, the request is refused with 503.
--
-- lua-load-per-thread gatekey.lua
-- http-request lua.gatekey <host:port of Gatekey> <policy>

-- Milliseconds for one attempt. HAProxy 2.6 makes four of them, which cannot be changed there: 2 s in all, and 3 s when
-- nobody listens (it pauses for a second before it connects again).
local TIMEOUT = 500

-- What Gatekey reads; a client's other headers are none of its business.
local ASK = {
    "x-forwarded-method", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-uri", "x-forwarded-for",
    "x-api-key", "x-secret-token", "authorization", "cookie",
    "accept", "content-type", "sec-fetch-mode", "sec-fetch-dest", "sec-fetch-site", "sec-purpose", "purpose", "upgrade",
    "x-requested-with", "hx-request", "origin", "access-control-request-method",
    "user-agent", "x-request-id", "traceparent",
}

local IDENTITY = {
    "x-gatekey-organization", "x-gatekey-key-id", "x-gatekey-scopes", "x-gatekey-subject", "x-gatekey-method",
    "x-request-id",
}

-- HAProxy frames the answer itself.
local HOP_BY_HOP = { ["connection"] = true, ["content-length"] = true, ["transfer-encoding"] = true, ["keep-alive"] = true }

local DOWN = '{"type":"about:blank","title":"Service Unavailable","status":503,'
    .. '"detail":"Access cannot be checked at the moment.","code":"temporarily_unavailable",'
    .. '"message":"Access cannot be checked at the moment."}'

-- The lines of a header as a list that begins at 1 (HAProxy's begins at 0).
local function lines(headers, name)
    local found = {}
    for index = 0, #(headers[name] or {}) do
        if headers[name] and headers[name][index] then
            found[#found + 1] = headers[name][index]
        end
    end
    return found
end

local function refuse(txn)
    local reply = txn:reply({ status = 503, reason = "Service Unavailable", body = DOWN })
    reply:add_header("content-type", "application/problem+json")
    reply:add_header("cache-control", "no-store")
    reply:add_header("retry-after", "1")
    txn:done(reply)
end

local function ask(txn, address, policy)
    local request = txn.http:req_get_headers()
    local headers = {}
    for _, name in ipairs(ASK) do
        local found = lines(request, name)
        if #found > 0 then
            headers[name] = found
        end
    end
    headers["host"] = { address }
    local url = "http://" .. address .. "/auth/forward/" .. policy
    return core.httpclient():get({ url = url, headers = headers, timeout = TIMEOUT })
end

local function gatekey(txn, address, policy)
    local called, answer = pcall(ask, txn, address, policy)
    if not called or not answer or not answer.headers then
        return refuse(txn)
    end
    -- The client makes a 503 of its own when nobody answers; Gatekey's carries a request id.
    local from_gatekey = #lines(answer.headers, "x-request-id") == 1
    if not from_gatekey or answer.status < 200 or (answer.status > 200 and answer.status < 300) then
        return refuse(txn)
    end
    if answer.status == 200 then
        for _, name in ipairs(IDENTITY) do
            txn.http:req_del_header(name)
            local value = lines(answer.headers, name)[1]
            if value and value ~= "" then
                txn.http:req_add_header(name, value)
            end
        end
        return
    end
    local reply = txn:reply({ status = answer.status, reason = answer.reason, body = answer.body })
    for name in pairs(answer.headers) do
        for _, value in ipairs(lines(answer.headers, name)) do
            if not HOP_BY_HOP[name] then
                reply:add_header(name, value)
            end
        end
    end
    txn:done(reply)
end

core.register_action("gatekey", { "http-req" }, gatekey, 2)
