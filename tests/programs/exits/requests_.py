# preload: import requests
# preload: import http.server
import http.server
import threading

import requests

server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
threading.Thread(target=server.handle_request).start()
server.RequestHandlerClass.log_message = lambda *a: None
print(requests.get(f"http://127.0.0.1:{server.server_port}", timeout=9).status_code)
