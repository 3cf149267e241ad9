-- Counts every response by whether its status is the expected one (the first argument), and prints one line of JSON.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  expected = tonumber(arguments[1])
  right, wrong, first_wrong = 0, 0, 0
end

function response(status)
  if status == expected then
    right = right + 1
  else
    wrong = wrong + 1
    if first_wrong == 0 then first_wrong = status end
  end
end

function done(summary, latency)
  local right, wrong, first_wrong = 0, 0, 0
  for _, thread in ipairs(threads) do
    right = right + thread:get("right")
    wrong = wrong + thread:get("wrong")
    first_wrong = math.max(first_wrong, thread:get("first_wrong"))
  end
  local errors = summary.errors
  print(string.format(
    '\n{"requests":%d,"right":%d,"wrong":%d,"first_wrong":%d,"microseconds":%d,"p99":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}',
    summary.requests, right, wrong, first_wrong, summary.duration, latency:percentile(99), errors.connect, errors.read, errors.write, errors.timeout))
end
