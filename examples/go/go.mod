module payments

go 1.21
