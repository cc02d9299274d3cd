# preload: import grpc
from concurrent import futures

import grpc


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/echo/Echo":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request[::-1])
        return None


server = grpc.server(futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers((Echo(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    call = channel.unary_unary("/echo/Echo")
    print([call(f"number {i}".encode(), timeout=20) for i in range(20)])
    print([f.result(20) for f in [call.future(b"x" * i) for i in range(5)]])
    try:
        channel.unary_unary("/echo/Missing")(b"", timeout=20)
    except grpc.RpcError as error:
        print(error.code(), error.details())
server.stop(None).wait(20)
