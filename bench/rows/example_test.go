package rows_test

import (
	"fmt"

	"github.com/holdstill/holdstill/bench/rows"
)

func Example() {
	g := rows.New(1)
	for _, n := range []int{0, 1} {
		key, value := g.Row(n, 0)
		fmt.Printf("%s\n%s\n", key, value)
	}
	// Output:
	// events/1704067200003/000000000000
	// {"ts":"2024-01-01T00:00:00.003Z","type":"click","user":433196,"path":"/about/mug?id=550959","agent":"Mozilla/5.0(Macintosh;Intel_10_15)Chrome/125.0","ip":"10.144.19.148","trace":"e05b3837fd5efd90ed6c7c7a4d3ea83d","payload":"6Tk6AJwq15Fc5DMk_8Dkk0D6mI2y_9LcaqQDkuyL6er6SIv9cv5iIigdSeBKO7QLlSTa","ms":3700,"span":"396f754338eda72c","updated_at":"2024-01-01T00:16:41.628Z","rev":0}
	// users/000000000001
	// {"id":1,"name":"anna wang","email":"anna.wang5947@example.com","city":"london","country":"NG","created_at":"2024-01-01T00:00:00.071Z","password":"iYiLylQaxRnrABPKNFqi4L_SJyX9Mn-mKmidXKsIhMl","tags":["mobile","vip","new","staff","returning"],"about":"the not the by stock and the","status":"active","balance":7057.29,"session":"OPU0FoCSPI3-ZWqZLCZsBR","updated_at":"2024-01-01T00:15:54.275Z","rev":0}
}

func ExampleChanged() {
	for n := range rows.Changed(1, 100, 5) {
		fmt.Println(n)
	}
	// Output:
	// 30
	// 38
	// 40
	// 48
	// 58
	// 79
	// 88
	// 92
}
