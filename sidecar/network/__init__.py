"""What a connection needs at whichever end of it the sidecar is: addresses, the names of OTLP's services, how long to
wait before the next attempt, and how to end it while another thread reads."""
