"""What every benchmark uses: servers and connections, percentiles and tables, arguments, steady good load."""
