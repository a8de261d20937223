"""MLPerf's server and offline scenarios: requests, engines, arrivals, one server, the search for its load."""
